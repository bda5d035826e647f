#!/usr/bin/env python3
"""python3 compare.py BINARY FIRST_SEED LAST_SEED [--keep DIR]: ztmon against count.py on generated cases."""
import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import count
import generate

SUMMARY_KEYS = {"counted": "counted", "copy": "copies", "out_of_scope": "out_of_scope", "not_ip": "not_ip",
                "malformed": "malformed", "unsupported_link": "unsupported_link"}


def short_diff(want, got):
    want, got = (x.decode("utf-8", "replace").split("\r\n") for x in (want, got))
    lines = [l for l in difflib.unified_diff(want, got, "count.py", "binary", lineterm="", n=0)][2:]
    more = ["... %d more lines" % (len(lines) - 12)] if len(lines) > 12 else []
    return "\n".join("    " + repr(l)[1:-1] for l in lines[:12] + more)


def execute(binary, form, args, folder):
    """(exit code or None on a time out, stdout, stderr)"""
    try:
        p = subprocess.run([binary, "replay", "--format", form, "--quiet", *args], cwd=folder, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        return p.returncode, p.stdout, p.stderr
    except subprocess.TimeoutExpired:
        return None, b"", b""


def check(binary, folder, args):
    """What differs, as a list of texts."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        want_code, want, want_outcomes, causes = count.run(args)
    finally:
        os.chdir(here)
    faults = []
    code, got, stderr = execute(binary, "csv", args, folder)
    faults += died("csv", code, stderr)
    if code != want_code:
        faults.append("exit code: expected %s, got %s; expected causes %r; stderr %r" % (want_code, code, causes, stderr[:300]))
    if got != want:
        faults.append("stdout:\n" + short_diff(want, got))
    jcode, jout, jerr = execute(binary, "json", args, folder)
    faults += died("json", jcode, jerr)
    if jcode != want_code:
        faults.append("exit code with json: expected %s, got %s" % (want_code, jcode))
    if want_code == 2:
        if jout:
            faults.append("stdout with json is not empty")
    else:
        try:
            summary = json.loads(jout)["summary"]
            have = {k: summary[v] for k, v in SUMMARY_KEYS.items()}
            if have != want_outcomes:
                faults.append("outcomes: expected %s, got %s" % (want_outcomes, have))
        except (ValueError, KeyError, TypeError) as e:
            faults.append("json: %s: %r" % (type(e).__name__, e))
    return faults


def died(form, code, stderr):
    if code is None:
        return ["%s: timed out" % form]
    faults = []
    if code < 0:
        faults.append("%s: died by signal %d" % (form, -code))
    if b"panicked" in stderr:
        faults.append("%s: panicked: %r" % (form, stderr[:300]))
    return faults


def main():
    a = argparse.ArgumentParser()
    a.add_argument("binary")
    a.add_argument("first", type=int)
    a.add_argument("last", type=int)
    a.add_argument("--keep")
    o = a.parse_args()
    binary = os.path.abspath(o.binary)
    passed = failed = 0
    for seed in range(o.first, o.last + 1):
        with tempfile.TemporaryDirectory() as folder:
            args = None
            try:
                args = generate.generate(seed, folder)
                faults = check(binary, folder, args)
            except Exception:
                faults = ["the oracle itself failed:\n" + traceback.format_exc()]
            if not faults:
                passed += 1
                continue
            failed += 1
            for fault in faults:
                print("seed %d: %s: %s" % (seed, json.dumps(args), fault), flush=True)
            if o.keep:
                shutil.copytree(folder, os.path.join(o.keep, "seed-%d" % seed), dirs_exist_ok=True)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
