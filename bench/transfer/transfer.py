#!/usr/bin/env python3
"""GET and PUT of one large object: the onnxferry store beside curl, on the same server with the same connections.

    bench/transfer/transfer.py build/bench/bench/transfer/bench_transfer [--mib 1024] [--connections 8] [--rounds 7]

The server is versitygw (tests/tools/versity-up.sh: it costs the least CPU, so that the clients are what is measured), or
SeaweedFS with --server weed; what it is sent stays in memory, so that no disk is measured. Both clients move the same parts
over the same number of connections and take turns, in the opposite order every other round, each after the disk has what
the one before wrote. A ratio is taken within each round, so that what else the machine does hits both sides of it; the
median of the rounds is printed, and all of them. Times are of whole processes; CPU seconds are the clients' own and, apart,
the server's meanwhile. curl gets presigned URLs and part files cut beforehand and writes a GET to one file per part; it puts
nothing together. For PUT it is run three times: with every Content-MD5 known beforehand (it then computes no digest at all), and
with the digests computed by openssl within the time, one process per processor, as a script would. The store signs, and
computes and sends the Content-MD5 of every part. Third, "bare put" is both without Content-MD5; the store then signs the SHA-256 of
every part instead, as it does over plain http whenever no MD5 ties the bytes to the signature.
"""

import argparse
import base64
import hashlib
import hmac
import os
import pathlib
import re
import resource
import statistics
import subprocess
import tempfile
import time
import urllib.parse
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCESS_KEY, SECRET_KEY, BUCKET = "benchkey", "bench-secret-key", "bench"
MIB = 1 << 20


def presign(method: str, endpoint: str, path: str, query: dict[str, str]) -> str:
    """A SigV4 URL for S3 that is valid for an hour."""
    now = time.gmtime()
    day, stamp = time.strftime("%Y%m%d", now), time.strftime("%Y%m%dT%H%M%SZ", now)
    scope = f"{day}/us-east-1/s3/aws4_request"
    fields = query | {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{ACCESS_KEY}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": "3600",
        "X-Amz-SignedHeaders": "host",
    }
    quoted = "&".join(f"{urllib.parse.quote(k, safe='')}={urllib.parse.quote(v, safe='')}" for k, v in sorted(fields.items()))
    host = endpoint.split("://")[1]
    canonical = f"{method}\n{path}\n{quoted}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (day, "us-east-1", "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return f"{endpoint}{path}?{quoted}&X-Amz-Signature={hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cpu_of_process(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "-sS", "--fail-with-body", *arguments], check=True, capture_output=True, text=True).stdout


class Result(NamedTuple):
    seconds: float
    cpu: float  # of the client
    server_cpu: float


class Bench:
    def __init__(self, args: argparse.Namespace, work: pathlib.Path, endpoint: str, server: int):
        self.args, self.work, self.endpoint, self.server = args, work, endpoint, server
        self.source = work / "source"
        self.part_bytes = args.part_mib * MIB
        self.parts: list[pathlib.Path] = []
        self.etags: list[str] = []
        self.peak_kib = 0  # of our process

    def make_source(self) -> None:
        total = self.args.mib * MIB
        with self.source.open("wb") as out:
            for number, begin in enumerate(range(0, total, self.part_bytes), start=1):
                data = os.urandom(min(self.part_bytes, total - begin))
                out.write(data)
                part = self.work / f"part-{number}"
                part.write_bytes(data)
                self.parts.append(part)
                self.etags.append(hashlib.md5(data).hexdigest())

    def ours(self, operation: str, key: str, file: pathlib.Path, *options: str) -> float:
        environment = os.environ | {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": "us-east-1"}
        environment.pop("AWS_SESSION_TOKEN", None)
        if operation == "get":
            file.unlink(missing_ok=True)
        begin = time.monotonic()
        process = subprocess.Popen(
            [self.args.program, operation, f"s3://{BUCKET}/{key}", str(file), "--connections", str(self.args.connections),
             "--part-mib", str(self.args.part_mib), *options], env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, "bench_transfer failed"
        self.peak_kib = max(self.peak_kib, usage.ru_maxrss)
        return seconds

    def curl_parallel(self, blocks: list[list[str]]) -> None:
        config = self.work / "curl.config"
        config.write_text("\nnext\n".join("\n".join(["fail", "silent", "show-error", *block]) for block in blocks))
        subprocess.run(["curl", "--no-progress-meter", "--parallel", "--parallel-immediate", "--parallel-max", str(self.args.connections),
                        "--config", str(config)], check=True)

    def openssl_md5(self) -> list[str]:
        """The parts' digests, by one openssl per processor."""
        processes = os.cpu_count() or 1
        running = [subprocess.Popen(["openssl", "dgst", "-md5", "-r", *self.parts[first::processes]], text=True,
                                    stdout=subprocess.PIPE) for first in range(min(processes, len(self.parts)))]
        digest_of = {}
        for process in running:
            for line in process.communicate()[0].splitlines():
                digest, name = line.split(" *")
                digest_of[name] = digest
        return [digest_of[str(part)] for part in self.parts]

    def curl_put(self, key: str, digests: str) -> float:
        path = f"/{BUCKET}/{key}"
        begin = time.monotonic()
        etags = self.openssl_md5() if digests == "openssl" else self.etags
        created = curl("-X", "POST", presign("POST", self.endpoint, path, {"uploads": ""}))
        upload_id = re.search(r"<UploadId>([^<]+)</UploadId>", created).group(1)
        self.curl_parallel([
            [f'url = "{presign("PUT", self.endpoint, path, {"partNumber": str(n), "uploadId": upload_id})}"',
             *([] if digests == "none" else [f'header = "Content-MD5: {base64.b64encode(bytes.fromhex(etag)).decode()}"']),
             f'upload-file = "{part}"', f'output = "{self.work}/reply"']
            for n, (part, etag) in enumerate(zip(self.parts, etags), start=1)])
        body = "".join(f'<Part><PartNumber>{n}</PartNumber><ETag>"{etag}"</ETag></Part>'
                       for n, etag in enumerate(etags, start=1))
        reply = curl("--data-binary", f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>",
                     presign("POST", self.endpoint, path, {"uploadId": upload_id}))
        seconds = time.monotonic() - begin
        assert "CompleteMultipartUploadResult" in reply, reply
        return seconds

    def curl_get(self, key: str) -> float:
        begin = time.monotonic()
        url = presign("GET", self.endpoint, f"/{BUCKET}/{key}", {})
        offset, blocks = 0, []
        for number, part in enumerate(self.parts, start=1):
            size = part.stat().st_size
            blocks.append([f'url = "{url}"', f'range = "{offset}-{offset + size - 1}"',
                           f'output = "{self.work}/got-{number}"'])
            offset += size
        self.curl_parallel(blocks)
        return time.monotonic() - begin

    def check(self, file: pathlib.Path) -> None:
        """What was fetched is what was put: a fast wrong transfer must not look good."""
        subprocess.run(["cmp", str(self.source), str(file)], check=True)

    def check_curl(self) -> None:
        for number, part in enumerate(self.parts, start=1):
            subprocess.run(["cmp", str(part), str(self.work / f"got-{number}")], check=True)

    def run(self) -> None:
        self.make_source()
        fetched = self.work / "fetched"
        turn = {
            "put ours": lambda: self.ours("put", "ours", self.source),
            "put curl": lambda: self.curl_put("curl", "known"),
            "put curl + openssl": lambda: self.curl_put("curl", "openssl"),
            "bare put ours": lambda: self.ours("put", "ours", self.source, "--no-checksum"),
            "bare put curl": lambda: self.curl_put("curl", "none"),
            "get ours": lambda: self.ours("get", "curl", fetched),
            "get curl": lambda: self.curl_get("ours"),
        }
        for measure in turn.values():  # to warm up, and for what GET reads
            measure()
        self.check(fetched)
        self.check_curl()
        names = [name for name in turn if self.args.only in name]
        results: dict[str, list[Result]] = {name: [] for name in names}
        for number in range(self.args.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                os.sync()
                cpu, server_cpu = cpu_of_children(), cpu_of_process(self.server)
                seconds = turn[name]()
                results[name].append(Result(seconds, cpu_of_children() - cpu, cpu_of_process(self.server) - server_cpu))
        self.print(results)

    def print(self, results: dict[str, list[Result]]) -> None:
        print(f"{self.args.mib} MiB, {self.args.connections} connections, parts of {self.args.part_mib} MiB, {self.args.server}, "
              f"medians of {self.args.rounds} rounds; memory of our process: {self.peak_kib / 1024:.0f} MiB at most")
        for name, rounds in results.items():
            seconds, cpu, server_cpu = (statistics.median(column) for column in zip(*rounds))
            print(f"{name:18} {self.args.mib / seconds:5.0f} MiB/s, {cpu:5.2f} s of CPU, the server's {server_cpu:5.2f} s")
        for name, rounds in results.items():
            operation, peer = re.fullmatch(r"((?:bare )?\w+) (.*)", name).groups()
            if peer != "ours":
                ratios = [theirs.seconds / mine.seconds for mine, theirs in zip(results[f"{operation} ours"], rounds)]
                print(f"{operation}: ours / {peer} {statistics.median(ratios):.2f} "
                      f"(rounds: {' '.join(f'{ratio:.2f}' for ratio in ratios)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_transfer, built with the preset bench")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--part-mib", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["get", "put"], default="", help="default: both")
    parser.add_argument("--server", choices=["versity", "weed"], default="versity")
    parser.add_argument("--work", help="where the clients' files live; default: the temporary folder")
    parser.add_argument("--server-work", default="/dev/shm", help="where the server keeps what it is sent: 3 GiB for each GiB")
    args = parser.parse_args()
    tools = ROOT / "tests" / "tools"
    port = subprocess.run(["bash", "-c", f". '{tools}/lib.sh' && free_ports 1"], check=True, capture_output=True,
                          text=True).stdout.strip()
    with tempfile.TemporaryDirectory(dir=args.work) as folder, tempfile.TemporaryDirectory(dir=args.server_work) as server_folder:
        work, server = pathlib.Path(folder), pathlib.Path(server_folder)
        try:
            subprocess.run([str(tools / f"{args.server}-up.sh"), str(server), port, ACCESS_KEY, SECRET_KEY], check=True,
                           stdout=subprocess.DEVNULL)
            endpoint = f"http://127.0.0.1:{port}"
            curl("-X", "PUT", presign("PUT", endpoint, f"/{BUCKET}", {}))
            Bench(args, work, endpoint, int((server / "pid").read_text())).run()
        finally:
            subprocess.run([str(tools / f"{args.server}-down.sh"), str(server)], check=False)


if __name__ == "__main__":
    main()
