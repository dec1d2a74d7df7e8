"""Variables with our prefixes that other programs set: they are not misspelt settings.

The RabbitMQ server takes its settings from ``RABBITMQ_*``, its container image adds some, and
Kubernetes and Docker describe every service that a container can reach in variables with the
service's name.
"""

from __future__ import annotations

import re
from typing import Final

# From rabbitmq-server 3.x and 4.x: ``rabbit_env.erl`` and the scripts of its package.
_RABBITMQ_SERVER: Final = """
    ADVANCED_CONFIG_FILE ALLOW_INPUT BASE BOOT_MODULE CONFIG_FILE CONFIG_FILES CONF_ENV_FILE
    CONF_ENV_FILE_PHASE CTL_DIST_PORT_MAX CTL_DIST_PORT_MIN CTL_ERL_ARGS DBG DEFAULT_ALLOC_ARGS
    DISTRIBUTION_BUFFER_SIZE DIST_PORT ENABLED_PLUGINS ENABLED_PLUGINS_FILE ENV_LOADED
    ERLANG_COOKIE FEATURE_FLAGS FEATURE_FLAGS_FILE GENERATED_CONFIG_DIR HOME IGNORE_SIGINT
    IGNORE_SIGINT_FLAG IO_THREAD_POOL_SIZE KEEP_PID_FILE_ON_EXIT LOG LOGS LOG_BASE LOG_FF_REGISTRY
    MAX_NUMBER_OF_ATOMS MAX_NUMBER_OF_PROCESSES MNESIA_BASE MNESIA_DIR MOTD_FILE NODENAME
    NODE_IP_ADDRESS NODE_ONLY NODE_PORT PID_FILE PLUGINS_DIR PLUGINS_EXPAND_DIR PRODUCT_NAME
    PRODUCT_VERSION QUORUM_DIR SCHEDULER_BIND_TYPE SCHEDULER_BUSY_WAIT_THRESHOLD SCHEMA_DIR
    SCRIPTS_DIR SERVER_ADDITIONAL_ERL_ARGS SERVER_CODE_PATH SERVER_ERL_ARGS SERVER_START_ARGS
    START_RABBIT STREAM_DIR UPGRADE_LOG USE_LONGNAME
"""

# From the image ``rabbitmq`` on Docker Hub: they configure the broker, not its clients.
_RABBITMQ_IMAGE: Final = """
    DATA_DIR DEFAULT_PASS DEFAULT_PASS_FILE DEFAULT_USER DEFAULT_USER_FILE DEFAULT_VHOST
    PGP_KEY_ID VERSION
"""

_SERVER_NAMES: Final = frozenset(
    f"RABBITMQ_{name}" for name in (_RABBITMQ_SERVER + _RABBITMQ_IMAGE).split()
)

_SERVICE_LINK: Final = re.compile(
    r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://.*")


def is_foreign(name: str, value: str) -> bool:
    """Whether another program is known to set this variable."""
    return (
        name in _SERVER_NAMES
        or _SERVICE_LINK.fullmatch(name) is not None
        or (name.endswith("_PORT") and _SERVICE_ADDRESS.fullmatch(value) is not None)
    )
