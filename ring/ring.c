/* Placeholder until the module lands. */
typedef int ring_placeholder;
