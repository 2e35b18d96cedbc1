/* Placeholder until the module lands. */
typedef int codecs_placeholder;
