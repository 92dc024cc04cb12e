"""Each part is made to do nothing, one at a time: the notebook that defines or uses it must notice."""
import json, shutil

import pytest
from conftest import call, root

# name → notebook, text that stands there once, what replaces it
breaks = {
    'offsets are zero': ('09_ham', 'offsets = self.max_offset * self.offset(seen).float().tanh()', 'offsets = 0 * self.offset(seen).float()'),
    'offsets do not see the error': ('09_ham', 'error.to(warped.dtype) * self.error_guided', 'error.to(warped.dtype) * 0'),
    'five copies of one frame inside STFT': ('10_stft', "x = rearrange(x, 'b t c h w -> b t h w c') + self", "x = rearrange(x[:, r:r+1].expand_as(x), 'b t c h w -> b t h w c') + self"),
    'frames in no order': ('10_stft', 'distance = (torch.arange(T, device=x.device) - r)', 'distance = 0 * (torch.arange(T, device=x.device) - r)'),
    'five copies of one frame into STFT': ('11_restorer', 'tokens = self.stft(each_frame(self.merge, features), reference)', 'tokens = self.stft(each_frame(self.merge, features[:, reference, None].expand_as(features)), reference)'),
    'no block is repeated': ('02_degradation', 'shown.append(torch.where(large(repeated[:, t] & small)[:, None], shown[-1] + large(mean), y[:, t]))', 'shown.append(y[:, t])'),
    'a rescaled frame shows more of the scene': ('02_degradation', 'look(theta.homography, theta.waves, grid * pitch)', 'look(theta.homography, theta.waves, grid)'),
    'severity 0 is not clean': ('02_degradation', 'return (severity / whole).clamp(max=1)', 'return (severity / whole).clamp(.02, 1)'),
    'every camera stands straight before the plate': ('02_degradation', 'torch.where(steep[:, None, None, None], steep_view(u, n, τ, s, w), straight_view(u, n, τ, s, w))', 'straight_view(u, n, τ, s, w)'),
    'no plate is bent': ('02_degradation', '(1 - u[0] / bent).clamp(min=0) *', '0.01 * (1 - u[0] / bent).clamp(min=0) *'),
    'the upper edge is never taken for the one below the band': ('02_degradation', 'quad[:, 1, :2] += cut', 'quad[:, 1, :2] += 0 * cut'),
    'no step is mild': ('16_learner', 'if stage.mild and step % stage.mild == stage.mild - 1: return (0., .15)', 'if False: return (0., .15)'),
    'the detector is blind': ('19_clips', 'return partial(find, net, threshold=threshold)', 'return lambda picture, **_: found_none()'),
    'corners that are given are looked for': ('07_rectifier', 'unknown = (~given.isfinite().flatten(1).all(1)).nonzero()[:, 0]', 'unknown = torch.arange(len(given))'),
    'easy points weigh as much as hard ones': ('06_detector', ' * (quality - logits.sigmoid()).square()', ''),
    'the detector learns no corners': ('06_detector', "return F.smooth_l1_loss(error, torch.zeros_like(error), reduction='none', beta=beta).mean((-1, -2)) / beta", "return 0 * F.smooth_l1_loss(error, torch.zeros_like(error), reduction='none', beta=beta).mean((-1, -2)) / beta"),
    'a plate is found twice': ('15_metrics', 'found[k], iou[:, iou[k].argmax()] = iou[k].argmax(), -1', 'found[k] = iou[k].argmax()'),
    'corners are known exactly': ('02_degradation', 'return found + unit', 'return found + 0 * unit'),
    'wide frames fall between two samples': ('00_core', 'out[rows] = torch.nn.functional.avg_pool2d(read, k)', 'out[rows] = read[..., ::k, ::k]'),
    'frames fade into their buffer': ('00_core', 'homography, filled = quad_homography(corners, box), edge_filled(native, size)', 'homography, filled = quad_homography(corners, box), native'),
    'corners shift with the codec': ('04_tracks', 'corners = synthetic.out.corners * (synthetic.theta.size / synthetic.out.size).flip(-1)[:, :, None]', 'corners = synthetic.out.corners'),
    'exposure is not matched': ('11_restorer', 'frames = match_exposure(frames, reference)', 'frames = frames'),
    'HR is drawn at half its size': ('04_tracks', 'h, w = (round(mm * PX_PER_MM / f) for', 'h, w = (round(mm * PX_PER_MM / f / 2) for'),
    'the generator leaves nothing out': ('04_tracks', '(Typical(draws) if part in self.typical else draws for part in parts)', '(draws for part in parts)'),
    'calibration is ignored': ('17_experiment', 'torch.full(reads.shape[1:2], exponent)', 'torch.full(reads.shape[1:2], 1.)'),
    'pixels of unknown plates are learnt': ('17_experiment', 'everything = torch.ones(len(batch), dtype=torch.bool) if batch.registered is None else batch.registered', 'everything = torch.ones(len(batch), dtype=torch.bool)'),
    'the joint loss is doubled': ('17_experiment', 'return sum(weights[k] * v for k, v in parts.items()), {k:', "return sum(weights[k] * v for k, v in parts.items()) * (2 if task == 'joint' else 1), {k:"),
    'the teacher teaches nothing': ('17_experiment', "parts['taught'] = P.distillation_loss(", "parts['taught'] = 0 * P.distillation_loss("),
    'the teacher is not listened to': ('13_recognizer', 'return temperature**2 * (p.exp() * (p - q)).sum(-1).mean((1, 2))', 'return 0 * (p.exp() * (p - q)).sum(-1).mean((1, 2))'),
    'corruption corrupts nothing': ('17_experiment', 'if corrupt: batch = replace', 'if False: batch = replace'),
    'no frame is rejected': ('21_baselines', 'return worst <= threshold, worst', 'return worst <= math.inf, worst'),
    'no flow is mended': ('21_baselines', 'return torch.where(wrong, plane, flow), wrong', 'return flow, wrong'),
    'the teacher sees sharp plates only': ('17_experiment', 'generator=generator).to(hr.device) < .5', 'generator=generator).to(hr.device) < -1'),
    'missing reads leave the rest as it was': ('17_experiment', 'self.exponent / sum(log_p.shape[1] for log_p in by_branch.values())', 'self.exponent'),
    'PARSeq learns one order': ('13_recognizer', '*map(order_mask, orders)])', '*map(order_mask, orders[:1].expand_as(orders))])'),
    'the error map cannot be left out': ('11_restorer', ', error_guided=c.error_guided)', ')'),
    'p values are not corrected': ('22_figures', "iter(holm([p for f in found for *_, p in f['tests']]) if found else ())", "iter([p for f in found for *_, p in f['tests']])"),
    'views are ignored': ('18_reading', 'seen = [view(frames.to(self.device), **views[name]) for name in self.tta]', 'seen = [frames.to(self.device) for name in self.tta]'),
    'semantic loss is zero': ('14_losses', 'return ((1 - label_smoothing) * right + label_smoothing * spread).mean()', 'return 0 * ((1 - label_smoothing) * right + label_smoothing * spread).mean()'),
    'no flow is made wrong': ('08_flow', 'return flow + (field.unflatten', 'return flow + 0 * (field.unflatten'),
    'refined flow is the flow': ('09_ham', 'refined = moving + resize_flow(shift,', 'refined = moving + 0 * resize_flow(shift,'),
    'training sees no wrong flow': ('17_experiment', 'restored = net.restorer(batch.frames, disturb=partial(disturbed_flow, generator=generator))', 'restored = net.restorer(batch.frames)'),
    'end to end sees no wrong flow': ('17_experiment', 'restored, reader = net.restorer(batch.frames, disturb=partial(disturbed_flow, generator=generator)), net.recognizer', 'restored, reader = net.restorer(batch.frames), net.recognizer'),
    'the picture learns from the reader by itself': ('17_experiment', "image if 'semantic' in weights else image.detach()", 'image'),
    'semantic weight is zero': ('14_losses', "'perceptual': 0.1, 'semantic': 0.5}", "'perceptual': 0.1, 'semantic': 0}"),
    'every variant restores with the gradient loss': ('17_experiment', 'return {k: w for k, w in losses[variant].items() if k in parts}', 'return {k: w for k, w in (losses[variant] | dict(gradient=.5)).items() if k in parts}'),
    'the judge of the perceptual loss learns': ('17_experiment', 'return copy.deepcopy(self.recognizer.encoder.stem).requires_grad_(False).eval()', 'return self.recognizer.encoder.stem'),
    'roles share their cameras': ('04_tracks', 'return mix(seed, 2**32 + roles.index(check_role(role)))', 'return mix(seed, 2**32 + 0 * roles.index(check_role(role)))'),
    'draws keep 32 bits of the number': ('00_core', 'int(i) % 2**64]', 'mix(int(seed), int(i)) % 2**32]'),
    'intervals ignore what tracks share': ('15_metrics', 'return float(len(y) / max(1, effect))', 'return float(len(y))'),
    'differences take seeds that only one has': ('22_figures', 'a, b, clusters = later.of(common), earlier.of(common),', 'a, b, clusters = later, earlier,'),
    'averages begin anew': ('16_learner', 'self.updates[name] = n + 1', 'self.updates[name] = 1'),
    'one bad frame bends the others': ('07_rectifier', 'return (bend / distance.clamp(min=bend))', 'return torch.ones_like(distance)'),
    'corners that are given are not taken': ('18_reading', "batch.corners.to(self.device) if self.corners == 'given' else None", 'None'),
    'corners that are found are not read beside given ones': ('18_reading', 'v.index_copy(0, rows, geometric_mean(v[rows], more[k]))', 'v'),
    'all corners are believed': ('18_reading', '(placed.doubt > believed)', '(placed.doubt > 1e9)'),
    'thresholds of the product, not of the confidence': ('20_trust', 'text_threshold(confidence, right.all(1), rate, delta)', 'text_threshold(got.confidence, right.all(1), rate, delta)'),
    'thresholds are rounded down': ('20_trust', 'math.ceil(level * 1e6) / 1e6', 'math.floor(level * 10) / 10'),
    'parts are calibrated on every track': ('20_trust', 'torch.where(apart, some, ~accepted)', 'torch.where(apart, some, True)'),
    'copies count as frames': ('18_reading', 'return len({(tuple(f.shape), f.numpy().tobytes()) for f in frames})', 'return len(frames)'),
    'the rectifier places nothing before judging': ('17_experiment', 'if rectifier and isinstance(source, FolderTracks)', 'if False'),
    'a stale run is taken': ('16_learner', "check_identity(state['identity'], self.identity, self.checkpoint)", 'pass'),
}


@pytest.mark.parametrize('name', breaks)
def test_is_noticed(name, tmp_path):
    stem, old, new = breaks[name]
    notebook = json.loads((root/'nbs'/f'{stem}.ipynb').read_text(encoding='utf-8'))
    code = [c for c in notebook['cells'] if c['cell_type'] == 'code']
    hit = [c for c in code if old in ''.join(c['source'])]
    assert len(hit) == 1 and ''.join(hit[0]['source']).count(old) == 1, f'{stem}: the line to break has changed'
    hit[0]['source'] = ''.join(hit[0]['source']).replace(old, new)
    (tmp_path/'nbs').mkdir()
    shutil.copy(root/'settings.ini', tmp_path)
    (tmp_path/'nbs'/f'{stem}.ipynb').write_text(json.dumps(notebook), encoding='utf-8')
    done = call('nbdev_test', '--path', tmp_path/'nbs'/f'{stem}.ipynb', '--n_workers', 0, cwd=tmp_path)
    assert done.code != 0, f'{stem} passes although {name}'
    assert 'AssertionError' in done.err, done.err[-2000:] # an identity failed; the notebook did not merely crash
