/* Placeholder until the module lands. */
typedef int rules_placeholder;
