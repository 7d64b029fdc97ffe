/** The only file of the page that names preact, and h() in the types that suit this page. */
import { type Attributes, type ComponentChildren, createElement, type FunctionComponent, type JSX } from 'preact'

export { Fragment, render } from 'preact'
export { useEffect, useId, useMemo, useRef, useState } from 'preact/hooks'
export type { ComponentChildren }

export type VNode = JSX.Element
type Elements = JSX.IntrinsicElements
type DataAttributes = { readonly [name: `data-${string}`]: string | undefined }
export type InputAttributes = Elements['input']

interface CreateElement {
  <T extends keyof Elements>(type: T, props: Elements[T] & DataAttributes, ...children: ComponentChildren[]): VNode
  <P>(type: FunctionComponent<P>, props: P & Attributes, ...children: ComponentChildren[]): VNode
}

export const h = createElement as CreateElement
