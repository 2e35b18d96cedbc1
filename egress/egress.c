/* Placeholder until the module lands. */
typedef int egress_placeholder;
