#!/usr/bin/python3
"""Times GPT-2 training steps (forward, backward, AdamW) of PyTorch on the CPU, fp32. Prints one JSON object.

Usage: pytorch_step.py WIDTH LAYERS HEADS VOCAB BATCH SEQUENCE STEPS THREADS
Needs PyTorch (Debian: python3-torch). The model is GPT-2 as Kiln trains it: learned positions, LayerNorm, GELU(tanh),
tied head, biases; attention by scaled_dot_product_attention where this PyTorch has it, else by explicit matrices.
"""

import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads, sequence):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gelu = nn.GELU(approximate="tanh")
        self.register_buffer("future", torch.triu(torch.ones(sequence, sequence, dtype=torch.bool), 1))

    def attention(self, x):
        B, T, C = x.shape
        q, k, v = (part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in self.qkv(x).split(C, dim=2))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]))
            y = F.softmax(scores.masked_fill(self.future[:T, :T], -math.inf), dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(B, T, C))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class GPT2(nn.Module):
    def __init__(self, width, layers, heads, vocab, sequence):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(sequence, width)
        self.blocks = nn.ModuleList(Block(width, heads, sequence) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)  # tied head
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    width, layers, heads, vocab, batch, sequence, steps, threads = map(int, sys.argv[1:9])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = GPT2(width, layers, heads, vocab, sequence)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    seconds = []
    for _ in range(steps):
        ids = torch.randint(vocab, (batch, sequence + 1))
        start = time.perf_counter()
        loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"version": torch.__version__, "ms": [1000 * s for s in seconds]}))


main()
