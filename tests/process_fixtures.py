"Start functions on several connected processes, as torchrun would"
import os
import socket
import traceback
from multiprocessing import get_context

_ctx = get_context('forkserver') # children of a process that has the library loaded start quickly
_ctx.set_forkserver_preload(['inception_repro.training.fit', 'training_fixtures'])


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def _child(pipe, place, f, args):
    os.environ |= place
    import torch
    torch.set_num_threads(1)
    try: pipe.send(f(*args))
    except BaseException as e: pipe.send(f'{type(e).__name__}: {e}' if isinstance(e, Exception) else
                                         traceback.format_exc())


def on_processes(n, f, *args):
    "What `f(*args)` returns on each of `n` processes, or the error as text; None for a process that was killed"
    place = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), WORLD_SIZE=str(n), INCEPTION_REPRO_TIMEOUT='60')
    found = []
    for i in range(n):
        here, there = _ctx.Pipe(False)
        p = _ctx.Process(target=_child, args=(there, place | dict(RANK=str(i), LOCAL_RANK=str(i)), f, args))
        p.start()
        there.close()
        found.append((p, here))
    def receive(p, pipe):
        try: return pipe.recv() if pipe.poll(120) else 'no answer'
        except EOFError: return None
        finally: p.join(20)
    return [receive(*o) for o in found]
