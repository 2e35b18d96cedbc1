/* Placeholder until the module lands. */
typedef int producer_placeholder;
