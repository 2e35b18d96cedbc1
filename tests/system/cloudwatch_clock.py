"""A host whose clock is hours ahead of CloudWatch's, which takes nothing of more than two hours ahead: no count is missing or doubled
while it stays wrong, once it is set right, and where what was counted by it waits in the outbox over a SIGKILL."""
import os
import signal

import system

AHEAD_S = 3 * 3600


def set_clock(stack, ahead_s):
    with open(stack.path("clock.new"), "w") as out:
        out.write(str(ahead_s))
    os.rename(stack.path("clock.new"), stack.path("clock"))


def counted(stack):
    return sum(int(entry["sum"]) for entry in stack.sink_report()["metrics"])


def expect(stack, what, wanted):
    try:
        system.wait_for(what, lambda: counted(stack) == wanted, 20)
    except system.Failure:
        pass  # the check shows the sum
    system.check(what, counted(stack), wanted)


def main(build, quick):
    with system.Stack(build, name="cloudwatch-clock") as stack:
        stack.start_sink()
        stack.write_configuration(
            firehose=False, file_destination=True,
            settings="egress.retry_throttle_base_ms: 200\negress.retry_max_ms: 300\n"
                     "egress.endpoints: {cloudwatch: \"%s\"}" % stack.endpoint,
            cloudwatch={"cw": {"CloudWatchDestination": {"DimensionConfigurations": [
                {"DimensionName": "tenant", "DimensionValueSource": "MESSAGE_TAG", "DefaultDimensionValue": "none"}]},
                "Sendring": {"Namespace": "Test", "Period": "2s"}}})
        set_clock(stack, AHEAD_S)
        stack.start_router(env={"LD_PRELOAD": os.path.join(os.path.abspath(build), "tests", "system", "set_clock.so"),
                                "SET_CLOCK_FILE": stack.path("clock")})
        stack.loadgen("--events", "100", "--rate", "1000", ledger="ahead")
        expect(stack, "counts by a clock that is ahead", 100)
        system.check("the log says so", "counted by a clock that was ahead" in stack.log("router", 200), True)
        set_clock(stack, 0)
        stack.loadgen("--events", "100", "--rate", "1000", ledger="right")
        expect(stack, "counts when it is set right", 200)
        set_clock(stack, AHEAD_S)
        port = int(stack.sink_address.split(":")[1])
        stack.stop("sink")
        closed = stack.stat()["counters"]["cloudwatch_periods"]
        stack.loadgen("--events", "100", "--rate", "1000", ledger="waits")
        system.wait_for("a closed period", lambda: stack.stat()["counters"]["cloudwatch_periods"] > closed, 20)
        pid = stack.router_pid()
        os.kill(pid, signal.SIGKILL)
        set_clock(stack, 0)
        system.wait_for("another router", lambda: stack.router_pid() not in (None, pid), 20)
        stack.start_sink(port=port)
        expect(stack, "counts that waited over a kill", 300)
        system.check("service ends well on SIGTERM", stack.stop("router"), 0)
        expect(stack, "counts at the end", 300)


system.run(main)
