/* A kill at any instant: the compiler calls us at every basic block of the code under test. Between two of them lie a
 * few stores in program order, as a SIGKILL leaves them; the labelled steps of the unit tests go finer where it counts.
 */
#include "tests/sim/sim.h"

#include <setjmp.h>

static jmp_buf sim_killed;
static uint64_t sim_blocks, sim_kill_at;

void __sanitizer_cov_trace_pc(void);

void __sanitizer_cov_trace_pc(void)
{
        sim_blocks++;
        if (sim_blocks != sim_kill_at)
                return;
        sim_kill_at = 0;
        longjmp(sim_killed, 1);
}

uint64_t sim_blocks_run(void)
{
        return sim_blocks;
}

bool sim_run(void (*body)(void *argument), void *argument, uint64_t blocks)
{
        if (setjmp(sim_killed) != 0)
                return true;
        sim_kill_at = blocks == 0 ? 0 : sim_blocks + blocks;
        body(argument);
        sim_kill_at = 0;
        return false;
}
