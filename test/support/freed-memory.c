/*
 * Loaded before everything else (LD_PRELOAD): looks into each piece of memory that a program gives back. MARKS names
 * what to look for, each 16 bytes in hexadecimal. Writes "freed N" to stderr for mark N.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK_BYTES 16
#define MOST_MARKS 32
/* larger ones are records and files, and would take too long */
#define MOST_BYTES 70000

static unsigned char marks[MOST_MARKS][MARK_BYTES];
static int count = -1;
static __thread int busy;

static void read_marks(void) {
  const char *text = getenv("MARKS");
  int n = text ? (int)strlen(text) / (2 * MARK_BYTES) : 0;
  if (n > MOST_MARKS) n = MOST_MARKS;
  for (int i = 0; i < n * MARK_BYTES; i++) {
    unsigned value = 0;
    sscanf(text + 2 * i, "%2x", &value);
    marks[i / MARK_BYTES][i % MARK_BYTES] = (unsigned char)value;
  }
  count = n;
}

static void look(void *memory) {
  if (!memory || busy) return;
  size_t bytes = malloc_usable_size(memory);
  if (bytes < MARK_BYTES || bytes > MOST_BYTES) return;
  busy = 1;
  if (count < 0) read_marks();
  for (int i = 0; i < count; i++)
    if (memmem(memory, bytes, marks[i], MARK_BYTES)) dprintf(2, "freed %d\n", i);
  busy = 0;
}

void free(void *memory) {
  static void (*real)(void *);
  if (!real) real = (void (*)(void *))dlsym(RTLD_NEXT, "free");
  look(memory);
  real(memory);
}

void *realloc(void *memory, size_t bytes) {
  static void *(*real)(void *, size_t);
  if (!real) real = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
  /* it may move, and then leaves what it held behind */
  if (memory && bytes > malloc_usable_size(memory)) look(memory);
  return real(memory, bytes);
}
