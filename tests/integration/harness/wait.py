"""The one way the tests wait."""

import time


def wait_for(condition, timeout, what, interval=0.1):
    """Call `condition` until its result is true, return that; after `timeout` seconds fail naming `what`.

    `what` can be a function, called for the message at the time of the failure.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {timeout} s: {text}")
        time.sleep(interval)


def wait_for_claim(proxy):
    """A job behind this fault proxy has begun to upload."""
    wait_for(
        lambda: any("onnxferry-claim" in request for request, _, _ in proxy.log()),
        30,
        lambda: f"the claim is written: {proxy.log()}",
        interval=0.02,
    )
