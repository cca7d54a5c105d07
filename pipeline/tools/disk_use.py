"""How a number of bytes is written."""


def in_words(n_bytes: int) -> str:
    """A number of bytes with a unit: 512 bytes, 3.4 MB, 120 GB. (rich.filesize writes 120.0 GB.)"""
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    size, units = n_bytes / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.5 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
