/* Placeholder until the module lands. */
typedef int io_placeholder;
