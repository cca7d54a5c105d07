"""The errors of the device. Each is one line that the reader can act on, and knows its exit code.

DeviceError          1   something the person can fix: file, what was found, what was expected
├── ImageError       1   a picture cannot be read, or is outside the bounds of the contract
├── ContractError    1   contract.json, or a graph that disagrees with it
├── ProviderError    1   an execution provider that must answer does not load
└── BundleError      1   a bundle, packed or unpacked, is not what its list says
SelfcheckError       3   the device does not compute what was promised
"""


class DeviceError(Exception):
    """Something the person can fix. The message says which file, what was found and what was expected."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # One line whatever a file is called and whatever a library had to say.
        super().__init__(" ".join(message.split()))


class ImageError(DeviceError):
    """A picture cannot be read, or is outside the bounds of the contract."""


class ContractError(DeviceError):
    """`contract.json` does not hold together, or a graph disagrees with it."""


class ProviderError(DeviceError):
    """The execution provider that must answer does not load here; the message names what is missing."""


class BundleError(DeviceError):
    """A bundle, packed or unpacked, is not exactly what its SHA256SUMS says."""


class SelfcheckError(DeviceError):
    """The device does not compute what the bundle promised."""

    exit_code = 3
