/* Placeholder until the module lands. */
typedef int control_placeholder;
