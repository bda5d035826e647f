"""`ztmon serve`, and what it shows on `/metrics`."""
import http.client
import re
import socket
import subprocess
import time

from measure import ztmon

PATIENCE = 120


class Serve:
    """Runs until it is left."""

    def __init__(self, *arguments):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.command = [ztmon(), "serve", "--listen-address", f"127.0.0.1:{self.port}", *arguments]

    def __enter__(self):
        self.start = time.monotonic()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)

    def page(self):
        """The page, or nothing while there is none."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except OSError:
            assert self.process.poll() is None, f"{self.command} ended"
            return ""

    def page_with(self, is_there):
        """The first page that has what is asked for, and the seconds since the start until then."""
        while time.monotonic() - self.start < PATIENCE:
            page = self.page()
            seconds = time.monotonic() - self.start
            if is_there(page):
                return page, seconds
            time.sleep(0.0005)
        raise TimeoutError(f"{self.command} does not show what it should")


def value(page, name):
    """The sum of all counters with this name."""
    return sum(int(number) for number in re.findall(rf"^{name}(?:{{.*}})? (\d+)$", page, re.MULTILINE))
