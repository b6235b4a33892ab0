# For gdb: the stacks at hits of `hit` whose numbers $INDEXES has, as JSON, one a line; frames that gdb
# makes up of tail calls, and those of signal deliveries, are left out.
import gdb
import json
import os

wanted = {int(n) for n in os.environ["INDEXES"].split(",")}


class Hit(gdb.Breakpoint):
    count = -1

    def stop(self):
        Hit.count += 1
        return Hit.count in wanted


def frames():
    frame = gdb.newest_frame()
    while frame is not None:
        if frame.type() not in (gdb.TAILCALL_FRAME, gdb.SIGTRAMP_FRAME):
            place = frame.find_sal()
            yield {
                "function": frame.name(),
                "file": place.symtab.filename if place.symtab else None,
                "line": place.line or None,
                "inlined": frame.type() == gdb.INLINE_FRAME,
            }
        frame = frame.older()


Hit("*hit")
gdb.execute("run")
while gdb.selected_inferior().pid:
    print("STACK " + json.dumps([Hit.count, list(frames())]), flush=True)
    gdb.execute("continue")
