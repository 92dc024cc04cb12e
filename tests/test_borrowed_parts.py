"""Rows of the ablation with parts that are not ours, run on random weights of the same structure."""
import json

import torch
from conftest import call, root

from ksr.core import ready_torchvision


def planted(folder):
    "RAFT's and MGP-STR's files, untrained"
    ready_torchvision()
    from safetensors.torch import save_file
    from torchvision.models.optical_flow import raft_large
    from transformers import MgpstrConfig, MgpstrForSceneTextRecognition
    torch.manual_seed(0)
    torch.save(raft_large(weights=None).state_dict(), folder/'raft.pth')
    net = MgpstrForSceneTextRecognition(MgpstrConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2., num_bpe_labels=5, num_wordpiece_labels=5))
    (folder/'mgpstr').mkdir()
    net.config.save_pretrained(folder/'mgpstr')
    save_file(net.state_dict(), folder/'mgpstr'/'model.safetensors')


def ablation(tmp_path, **settings):
    given = dict(tracks=1, seeds='0', reading_seeds='', scaling='', runs=tmp_path/'runs', out=tmp_path/'out') | settings
    return call('papermill', root/'nbs'/'ablation.ipynb', tmp_path/'ablation.ipynb', *(a for k, v in given.items() for a in ('-p', k, v)), cwd=root)


def test_rows_with_borrowed_parts(tmp_path):
    planted(tmp_path)
    done = ablation(tmp_path, rows='final raft,final mgpstr', raft=tmp_path/'raft.pth', mgpstr=tmp_path/'mgpstr')
    assert done.code == 0, done.err[-3000:]
    records = {p.parent.name: json.loads(p.read_text()) for p in (tmp_path/'out'/'ablation').glob('*/metrics.json')}
    assert set(records) == {'final raft-0', 'final mgpstr-0'}
    assert records['final raft-0']['parameters'] > 5e6 # RAFT itself
    assert records['final raft-0']['sets']['synthetic']['read'] != records['final mgpstr-0']['sets']['synthetic']['read']


def test_a_row_says_what_it_lacks(tmp_path):
    done = ablation(tmp_path, rows='final raft')
    assert done.code != 0 and "row 'final raft' needs weights: expected their place as raft=" in done.err
