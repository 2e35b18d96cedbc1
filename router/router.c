/* Placeholder until the module lands. */
typedef int router_placeholder;
