#!/usr/bin/python3 -I
"""Print `PASSED FAILED SKIPPED` of a JUnit file that pytest wrote.

Exit code 1 when there is no such file: the run ended before it could write one.
"""

import sys
import xml.etree.ElementTree as ET


def main(path: str) -> int:
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return 1
    total = failed = skipped = 0
    for case in root.iter("testcase"):
        total += 1
        failed += any(case.find(kind) is not None for kind in ("failure", "error"))
        skipped += case.find("skipped") is not None
    print(total - failed - skipped, failed, skipped)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
