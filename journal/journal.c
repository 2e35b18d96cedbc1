/* Placeholder until the module lands. */
typedef int journal_placeholder;
