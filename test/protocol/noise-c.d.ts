/** The part of noise-c.wasm that the interop test uses; the package brings no types of its own. */
declare module 'noise-c.wasm' {
  interface CipherState {
    EncryptWithAd(associated: Uint8Array, plaintext: Uint8Array): Uint8Array
    DecryptWithAd(associated: Uint8Array, ciphertext: Uint8Array): Uint8Array
    Rekey(): void
    free(): void
  }
  interface HandshakeState {
    Initialize(prologue: Uint8Array | null, s: Uint8Array | null, rs: Uint8Array | null, psk: Uint8Array | null): void
    WriteMessage(payload: Uint8Array): Uint8Array
    ReadMessage(message: Uint8Array, payloadNeeded: true): Uint8Array
    GetHandshakeHash(): Uint8Array
    Split(): [CipherState, CipherState]
  }
  interface NoiseC {
    readonly constants: { readonly NOISE_ROLE_INITIATOR: number; readonly NOISE_ROLE_RESPONDER: number }
    HandshakeState(protocolName: string, role: number): HandshakeState
  }
  function createNoise(ready: (noise: NoiseC) => void): void
  export = createNoise
}
