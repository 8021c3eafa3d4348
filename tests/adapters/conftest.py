import shutil
from pathlib import Path

import pytest

from tests.token_tree.plain import tiny_llama

TOKENIZER = Path(__file__).parents[2] / "data" / "models" / "s"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random Llama, and the tokenizer and chat template of a bundled tiny model."""
    folder = tmp_path_factory.mktemp("models") / "random"
    model = tiny_llama(
        vocab_size=2048,
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.1,
    )
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TOKENIZER / name, folder / name)
    return str(folder)
