"""Which run DIR belongs to: the settings in ``config.json``, written once, obeyed by every later run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from batchsent import checkpoint
from batchsent.batching import choose_compiled
from batchsent.calibration import asked_by, temperature_of
from batchsent.config import ScoreConfig
from batchsent.errors import LockedError, ModelError, SettingsChangedError, UsageError, without_secrets
from batchsent.identity import Identity, changed_fields
from batchsent.machine import choose_device
from batchsent.models import prompts
from batchsent.models.resolution import EMBEDDED, ModelSource, local_directory, require_unchanged, resolve_model
from batchsent.objects.uris import is_object
from batchsent.records import Shard
from batchsent.resolve import resolve
from batchsent.stages.committer import discard_everything, is_ours
from batchsent.stores import Store

log = logging.getLogger(__name__)

HashFile = Callable[[str], str]


def adopt(store: Store, config: ScoreConfig, hash_file: HashFile) -> Identity | None:
    """The settings in DIR, if they are those of ``config``; None if DIR has none, or ``--restart`` discards them.

    Raises SettingsChangedError if DIR has others.
    """
    recorded = recorded_identity(store)
    if recorded is None:
        return None
    changes = changed_fields(config, recorded) + _model_changes(config, recorded, hash_file)
    pairs = list(zip(recorded.labels, recorded.verbalizers, strict=False))
    changes += prompts.changes(config.prompt, config.verbalizer, recorded.prompt, pairs)
    changes += _calibration_changes(config, recorded)
    if not changes:
        return recorded
    if not config.restart:
        raise SettingsChangedError(
            f"{store.root} holds a run with other settings ({'; '.join(changes)})",
            "the settings of that run",
            "use them, choose another --output, or pass --restart to discard what is there",
        )
    log.warning("--restart: discarding what %s holds (%s)", store.root, without_secrets("; ".join(changes)))
    return None


def begin(
    store: Store, config: ScoreConfig, hash_file: HashFile, check: Callable[[], None], *, input_bytes: int
) -> Identity:
    """Decide the settings and write them into DIR; what an earlier run with others left is discarded.

    ``input_bytes`` says how much a process has to do.
    """
    # Resolved first: settings that are wrong must not cost what is there.
    identity = decide(config, hash_file, check, input_bytes=input_bytes)
    if config.restart and store.exists(checkpoint.CONFIG):
        discard_everything(store)
    try:
        store.publish_bytes(checkpoint.CONFIG, identity.to_json(), replace=False)
    except FileExistsError:
        # Another run on this DIR was first; where locks do not work, this is what keeps the two together.
        adopted = adopt(store, config, hash_file)
        if adopted is None:
            raise LockedError(
                f"another run began on {store.root} meanwhile", "one run that restarts", "run again"
            ) from None
        return adopted
    return identity


def decide(config: ScoreConfig, hash_file: HashFile, check: Callable[[], None], *, input_bytes: int) -> Identity:
    """The settings of a run that begins now. Writes nothing but what is converted or fetched into the user's cache."""
    device = choose_device(config.device)
    source = resolve_model(config.model, config.revision, hash_file)
    identity = resolve(config, source, device, check)
    is_compiled = choose_compiled(identity, source.directory, device, input_bytes)
    require_unchanged(source.directory, source.files, hash_file)
    return replace(identity, compiled=is_compiled)


def recorded_identity(store: Store) -> Identity | None:
    """The settings in DIR; None before its first use. Raises UsageError if they cannot be read."""
    data = store.read_bytes(checkpoint.CONFIG)
    if data is None:
        return None
    try:
        return Identity.from_json(data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{store.path(checkpoint.CONFIG)} is damaged or of another version of batchsent",
            "the settings of the run in DIR",
            "choose another --output, or remove DIR",
        ) from error


def model_source(identity: Identity, config: ScoreConfig, hash_file: HashFile) -> ModelSource:
    """The files of the recorded model. Raises ModelError if they are not the ones that were recorded."""
    name = identity.model if identity.revision else config.model
    source = resolve_model(name, identity.revision, hash_file)
    if source.files != identity.model_files:
        raise ModelError(
            f"{identity.model} has changed since DIR was first used ({_differing(source, identity)})",
            "the recorded model",
            "restore it, or pass --restart",
        )
    return source


def _calibration_changes(config: ScoreConfig, recorded: Identity) -> list[str]:
    asked = asked_by(recorded.prompt, recorded.verbalizers, is_calibrated=recorded.calibrate_prompt)
    temperature = temperature_of(config.calibration, recorded.model_version, asked)
    if temperature == recorded.temperature:
        return []
    return [f"calibration: temperature {recorded.temperature or 'none'} → {temperature or 'none'}"]


def _model_changes(config: ScoreConfig, recorded: Identity, hash_file: HashFile) -> list[str]:
    if recorded.revision is not None:
        # A hub model: the commit was recorded, so the hub need not be asked.
        if config.model != recorded.model and not recorded.model.endswith(f"/{config.model}"):
            return [f"model: {recorded.model} → {config.model}"]
        if config.revision not in (None, recorded.requested_revision, recorded.revision):
            return [f"revision: {recorded.requested_revision or recorded.revision} → {config.revision}"]
        return []
    if config.model != EMBEDDED and not is_object(config.model) and not local_directory(config.model).is_dir():
        return [f"model: {recorded.model} → {config.model}"]
    source = resolve_model(config.model, config.revision, hash_file)
    if source.files == recorded.model_files:
        return []
    if source.name != recorded.model:
        return [f"model: {recorded.model} → {source.name}"]
    return [f"model: {recorded.model} has changed ({_differing(source, recorded)})"]


def _differing(source: ModelSource, recorded: Identity) -> str:
    """Names of the model's files that are not as they were recorded."""
    found, expected = source.files, recorded.model_files
    return ", ".join(sorted(name for name in found | expected if found.get(name) != expected.get(name)))


def require_free_names(store: Store, shards: Iterable[Shard]) -> None:
    """Raise UsageError if the output of one of ``shards`` would replace what somebody else put into DIR."""
    # In an object store each look would be a request.
    taken = None if store.has_locks else set(store.outputs())
    for shard in shards:
        name = f"{shard.output_stem}.parquet"
        if (store.exists(name) if taken is None else name in taken) and not is_ours(store, name):
            raise UsageError(
                f"{store.path(name)} exists and is not batchsent's",
                "a name that is free",
                "move it away or choose another --output",
            )
