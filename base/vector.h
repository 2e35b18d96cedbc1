/* The vector registers, seen from callers of ISA-L (docs/adr/0060).
 *
 * On machines with AVX its functions use the registers' upper halves and return without clearing them (no vzeroupper).
 * From then on every SSE instruction of ours, which must keep those halves, waits for the last one that wrote the same
 * register: the copies of small structs that compilers make of them become one long chain. One checksum per event made
 * the router's shard nearly twice as slow by that. */
#ifndef SENDRING_BASE_VECTOR_H
#define SENDRING_BASE_VECTOR_H

/* To be called behind each call, or row of calls, of ISA-L. Costs a nanosecond; harmless anywhere. */
void vector_clear_uppers(void);

#endif
