"""Prints digits of pi (Gibbons' spigot), a checksum of them, and the machine that computed them."""

import hashlib
import platform
import sys
import time

DIGITS = 2000


def pi_digits(count):
    q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
    while count:
        if 4 * q + r - t < n * t:
            yield n
            count -= 1
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * (7 * k + 2) + r * l) // (t * l), l + 2


start = time.monotonic()
digits = "".join(map(str, pi_digits(DIGITS)))
took = time.monotonic() - start
if hashlib.sha256(digits.encode()).hexdigest()[:12] != "6c0a1a80ae4a":
    sys.exit("these are not the digits of pi")
print(f"{platform.machine()}, Python {platform.python_version()}: pi = {digits[0]}.{digits[1:20]}...{digits[-8:]}"
      f" ({DIGITS} digits, right, {took:.2f} s)")
