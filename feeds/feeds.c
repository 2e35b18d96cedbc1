/* Placeholder until the module lands. */
typedef int feeds_placeholder;
