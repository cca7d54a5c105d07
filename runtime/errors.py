"""The errors of the device. Each is one line that the reader can act on, and has an exit code.

DeviceError          1   a problem that the person can fix: file, what was found, what was expected
├── ImageError       1   a picture cannot be read, or is outside the bounds of the contract
│   └── TooManyPixelsError  a picture is larger than the caller allows
├── ClipError        1   a clip cannot be read, or is outside its bounds
├── ContractError    1   contract.json is invalid, or a graph disagrees with it
├── ProviderError    1   an execution provider that must answer does not load
└── BundleError      1   a bundle, packed or unpacked, does not match its list
SelfcheckError       3   the device does not compute what the bundle promised
"""


class DeviceError(Exception):
    """A problem that the person can fix. The message names the file, what was found and what was expected."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # File names and messages of libraries may hold line breaks; an error is one line.
        super().__init__(" ".join(message.split()))


class ImageError(DeviceError):
    """A picture cannot be read, or is outside the bounds of the contract."""


class TooManyPixelsError(ImageError):
    """A picture has more pixels than the caller allows."""


class ClipError(DeviceError):
    """A clip cannot be read, or is outside its bounds."""


class ContractError(DeviceError):
    """`contract.json` is invalid, or a graph disagrees with it."""


class ProviderError(DeviceError):
    """The execution provider that must answer does not load here. The message names what is missing."""


class BundleError(DeviceError):
    """A bundle, packed or unpacked, does not match its SHA256SUMS exactly."""


class SelfcheckError(DeviceError):
    """The device does not compute what the bundle promised."""

    exit_code = 3
