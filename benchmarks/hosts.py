"""Does a run on two hosts survive the loss of one? `python -m benchmarks.hosts`, as root on Linux

Two hosts are network namespaces of this machine, each with one cable to a switch. They share the disk. `torchrun`
starts the same command on both, with one process on each. In every scenario something happens at a moment drawn at
random: a host is killed, its cable is cut, or a host joins a run that has begun. Whatever happens, the table of the run
must have the same bytes as that of an undisturbed run on one host, all but its times, and so must the file of the
weights.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from inception_repro.support.files import atomic_write
from inception_repro.training.recipe import preset, run_name
from inception_repro.training.records import as_json, environment, read_run

OUT = Path(__file__).parent / 'records' / 'hosts.json'
CHANGES = dict(width=.0625, classes=4, per_class=64, valid_per_class=16, bs=16, epochs=8, evals=2, replicas=2)
RECIPE = preset('demo', 'inception_resnet_v2', **CHANGES)
TIMEOUT = 20 # Seconds without an answer after which a process gives up (the default is ten minutes)
PREFIX = f'inception-{os.getpid()}-'
HOSTS = dict(a='10.77.0.1', b='10.77.0.2') # their names begin with `PREFIX`; the rendezvous is on the first

def ip(*args): subprocess.run(['ip', *args], check=True, capture_output=True, text=True)

def build():
    "Two hosts and a switch"
    for name in 'switch', *HOSTS:
        ip('netns', 'add', PREFIX + name)
        ip('-n', PREFIX + name, 'link', 'set', 'lo', 'up')
    switch = PREFIX + 'switch'
    ip('-n', switch, 'link', 'add', 'bridge', 'type', 'bridge')
    ip('-n', switch, 'link', 'set', 'bridge', 'up')
    for name, address in HOSTS.items():
        ip('link', 'add', 'eth0', 'netns', PREFIX + name, 'type', 'veth', 'peer', 'name', name, 'netns', switch)
        ip('-n', PREFIX + name, 'address', 'add', f'{address}/24', 'dev', 'eth0')
        ip('-n', PREFIX + name, 'link', 'set', 'eth0', 'up')
        ip('-n', switch, 'link', 'set', 'dev', name, 'master', 'bridge', 'up')

def pids(name):
    "The processes of a host"
    found = subprocess.run(['ip', 'netns', 'pids', PREFIX + name], capture_output=True, text=True)
    return [int(o) for o in found.stdout.split()]

def kill(name):
    "Kill all processes of a host"
    for pid in pids(name):
        with suppress(ProcessLookupError): os.kill(pid, signal.SIGKILL)

def plug(name, how): ip('-n', PREFIX + 'switch', 'link', 'set', 'dev', name, how) # 'up' or 'down'

@contextmanager
def network():
    "The namespaces exist within this block"
    try:
        build()
        yield
    except subprocess.CalledProcessError as e: raise SystemExit(f'no network namespaces: {e.stderr.strip()}') from None
    finally:
        for name in *HOSTS, 'switch':
            kill(name)
            subprocess.run(['ip', 'netns', 'delete', PREFIX + name], capture_output=True)

class Scenario:
    "One training run in a folder of its own"
    def __init__(self, folder, draw, between): # `between`: seconds between two evaluations
        self.folder, self.draw, self.between, self.started, self.facts = Path(folder), draw, between, {}, {}
        self.folder.mkdir()

    path = property(lambda self: self.folder/'runs'/RECIPE.dataset/f'{run_name(RECIPE)}-{RECIPE.seed}.csv')
    weights = property(lambda self: self.folder/'weights'/RECIPE.dataset/f'{self.path.stem}.safetensors')

    def train(self): # the command after `python -m inception_repro`
        sets = [o for k, v in CHANGES.items() for o in ('--set', f'{k}={v}')]
        return ['train', RECIPE.model, *sets, '--device', 'cpu', '--runs', str(self.folder/'runs'),
                '--weights', str(self.folder/'weights')]

    def start(self, name, command):
        "Begin a command on a host"
        env = os.environ | dict(OMP_NUM_THREADS='1', TORCH_DISABLE_SHARE_RDZV_TCP_STORE='1',
                                GLOO_SOCKET_IFNAME='eth0', INCEPTION_REPRO_TIMEOUT=str(TIMEOUT))
        with open(self.folder/f'{name}.txt', 'a') as out:
            self.started[name] = subprocess.Popen(['ip', 'netns', 'exec', PREFIX + name, sys.executable, *command],
                                                  stdout=out, stderr=out, env=env)

    def join(self, *names):
        "Begin `torchrun` on these hosts"
        for name in names:
            conf = f'is_host={int(name == "a")},last_call_timeout=10,keep_alive_interval=2,read_timeout={TIMEOUT}'
            self.start(name, ['-m', 'torch.distributed.run', '--nnodes', '1:2', '--nproc-per-node', '1',
                              '--max-restarts', '3', '--rdzv-backend', 'c10d', '--rdzv-id', self.folder.name,
                              '--rdzv-endpoint', f'{HOSTS["a"]}:29400', '--rdzv-conf', conf,
                              '--local-addr', HOSTS[name], '-m', 'inception_repro', *self.train()])

    def rows(self):
        with suppress(OSError, ValueError): return len(read_run(self.path))
        return 0

    def moment(self):
        "Wait until a random moment of the run"
        row = self.draw.randint(2, RECIPE.epochs * 2 - 6)
        while self.rows() < row:
            if not any(p.poll() is None for p in self.started.values()): raise RuntimeError(self.told())
            time.sleep(.05)
        time.sleep(self.draw.uniform(0, self.between))
        self.facts['after_row'] = self.rows()

    def told(self): # what the hosts have printed last
        return '\n'.join(f'{p.name}: {p.read_text()[-2000:]}' for p in sorted(self.folder.glob('*.txt')))

    def wait(self, name, seconds=600):
        "The exit code of a host's command"
        code = self.facts[f'{name}_exit_code'] = self.started[name].wait(seconds)
        return code

    def result(self):
        "What the run left: processes of each part, table without times, digest of the weights"
        run = read_run(self.path)
        parts = [run.meta['environment'], *(o['environment'] for o in run.meta['time']['resumed'])]
        rows = [line.rsplit(',', 1)[0] for line in self.path.read_text().splitlines()] # without seconds
        return dict(processes=[o.get('processes', 1) for o in parts], finished=run.meta['finished'],
                    table=sha256('\n'.join(rows).encode()).hexdigest(),
                    weights=sha256(self.weights.read_bytes()).hexdigest(), **self.facts)

def one_host(s):
    s.start('a', ['-m', 'inception_repro', *s.train()])
    s.wait('a')

def two_hosts(s):
    s.join('a', 'b')
    s.wait('a'), s.wait('b')

def second_host_is_killed(s):
    s.join('a', 'b')
    s.moment()
    kill('b')
    s.wait('a')

def cable_is_cut(s):
    s.join('a', 'b')
    s.moment()
    plug('b', 'down')
    s.wait('a')
    s.facts['b_processes'] = len(pids('b')) # 1: the training has given up by itself; torchrun waits for its rendezvous
    kill('b')
    plug('b', 'up')

def host_joins_later(s):
    s.join('a')
    s.moment()
    s.join('b')
    s.wait('a'), s.wait('b')

def host_returns(s):
    s.join('a', 'b')
    s.moment()
    kill('b')
    s.started['b'].wait()
    s.join('b')
    s.wait('a'), s.wait('b')

def first_host_is_killed(s):
    "The rendezvous is on it, so that both commands are repeated"
    s.join('a', 'b')
    s.moment()
    kill('a')
    s.facts['b_ended_with'] = s.started['b'].wait(600)
    s.join('a', 'b')
    s.wait('a'), s.wait('b')

def process_is_killed(s):
    "On one host, by `--processes 2 --restarts 1`"
    s.start('a', ['-m', 'inception_repro', *s.train(), '--processes', '2', '--restarts', '1'])
    s.moment()
    found = subprocess.run(['pgrep', '-P', str(s.started['a'].pid)], capture_output=True, text=True).stdout.split()
    s.facts['rank'] = s.draw.randrange(2)
    os.kill(int(found[s.facts['rank']]), signal.SIGKILL)
    s.wait('a')

SCENARIOS = dict(undisturbed=two_hosts, second_host_is_killed=second_host_is_killed, cable_is_cut=cable_is_cut,
                 host_joins_later=host_joins_later, host_returns=host_returns,
                 first_host_is_killed=first_host_is_killed, process_is_killed=process_is_killed)

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--seed', type=int, default=0, help='of the moments')
    ap.add_argument('--only', nargs='+', choices=SCENARIOS, default=list(SCENARIOS), metavar='SCENARIO')
    ap.add_argument('--out', type=Path, default=OUT)
    args, rows = ap.parse_args(), []
    draw = random.Random(args.seed)
    with TemporaryDirectory() as tmp, network():
        began, s = time.monotonic(), Scenario(Path(tmp)/'one_host', draw, 0.)
        one_host(s)
        if not s.path.exists(): raise SystemExit(s.told())
        whole, between = s.result(), read_run(s.path)['seconds'][-1] / len(read_run(s.path))
        print(f'one host: {time.monotonic() - began:.0f} s', flush=True)
        for name in args.only:
            began, s = time.monotonic(), Scenario(Path(tmp)/name, draw, between)
            try:
                SCENARIOS[name](s)
                found = s.result()
            except Exception as e: raise SystemExit(f'{name}: {e!r}\n{s.told()}') from None
            finally:
                for host in HOSTS: kill(host)
            same = {f'same_{k}': found.pop(k) == whole[k] for k in ('table', 'weights')}
            rows.append(dict(scenario=name, **found, **same, seconds=round(time.monotonic() - began, 1)))
            print(json.dumps(rows[-1]), flush=True)
    about = dict(seed=args.seed, timeout=TIMEOUT, recipe=as_json(RECIPE), rows=rows, environment=environment())
    atomic_write(args.out, json.dumps(about, indent=1) + '\n')
    if not all(r['finished'] and r['same_table'] and r['same_weights'] for r in rows): raise SystemExit('a run differs')

if __name__ == '__main__': main()
