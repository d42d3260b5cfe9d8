"""The settings classes of all services, and settings read without any flags."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from headrace.models.settings import ModelsSettings
from headrace.runtime.settings import SettingsGroup, SettingsLoader, SettingsT, Tables


def settings_tables() -> Tables:
    """Every table of the settings file. Services' settings modules import nothing heavy."""
    # Here and not above: importing this module must not pull in services.
    from edge.settings import EdgeSettings  # noqa: PLC0415 (see above)
    from tokenizer_svc.settings import TokenizerSettings  # noqa: PLC0415 (see above)
    from worker.settings import WorkerSettings  # noqa: PLC0415 (see above)

    tables: dict[str, type[SettingsGroup]] = {
        "edge": EdgeSettings,
        "tokenizer": TokenizerSettings,
        "worker": WorkerSettings,
        "models": ModelsSettings,
    }
    return tables


def load_settings(table: str, settings: type[SettingsT], config: Path | None) -> SettingsT:
    """One table's settings from defaults, file and environment. Raises StartError."""
    loader = SettingsLoader(table, settings, settings_tables(), ArgumentParser())
    return loader.load(Namespace(config=config))


def load_models_settings(config: Path | None) -> ModelsSettings:
    """Where models are kept. Raises StartError."""
    return load_settings("models", ModelsSettings, config)
