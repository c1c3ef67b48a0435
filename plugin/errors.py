"""The exceptions that users meet: each message names the file and record, what arrived, what was expected and how to mend it.

Library code raises these and never exits; only the command line turns them into an exit status.
"""


class KipoiBorzoiError(Exception):
    """Base of every error that is the input's or the environment's fault, not a bug of this package."""


class InputError(KipoiBorzoiError, ValueError):
    """A file, record or argument given by the user cannot be used."""


class ConfigError(KipoiBorzoiError, ValueError):
    """A network configuration (Calico's ``params.json``) is malformed or names something unknown."""


class WeightsError(KipoiBorzoiError, ValueError):
    """A weights file does not hold exactly the tensors the network needs."""


class ZooError(KipoiBorzoiError):
    """A zoo, or an entry of it, is missing, malformed or already there."""


class DownloadError(KipoiBorzoiError):
    """A remote file could not be fetched whole, or is not the file it should be."""


class TrainingError(KipoiBorzoiError):
    """A training run cannot go on, or cannot be continued from where it stands."""
