"""Memory of CPU training: keep what was freed."""

from __future__ import annotations

import ctypes
import platform

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# The largest threshold that glibc takes for mmap: larger blocks still come from the system one by one.
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory() -> bool:
    """Let the C allocator keep freed blocks for the next step instead of handing them back to the system.

    A training step allocates the same tensors again and again; each time glibc returned and refetched them, the system
    zeroed their pages anew. Only with glibc; what the process holds is then its peak until it ends.

    Returns:
        whether the allocator took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
