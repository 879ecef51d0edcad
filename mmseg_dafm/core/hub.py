"""What mmengine's message hub tells of the run."""

from mmengine.config import Config
from mmengine.logging import MessageHub


def parse_config(text: str | None) -> dict:
    """Parse the config text that mmengine's runner puts into the message hub; {} if there is none that parses."""
    try:
        return Config.fromstring(text, '.py').to_dict() if text else {}
    except Exception:
        # A stamp is never worth the loss of the scores it belongs to, whatever mmengine raises on an odd text.
        return {}


def running_config() -> dict:
    """The config of the run that this process is in; {} outside of a run, and before its runner starts."""
    return parse_config(MessageHub.get_current_instance().get_info('cfg'))
