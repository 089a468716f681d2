"A process whose GPU has no values, for `train_all`."
from inception_repro.results.train_many import start_worker as start
from inception_repro.support.dry_run import fake_gpu

gpu = fake_gpu()


def start_worker(*args):
    start(*args)
    gpu.__enter__() # until the process ends
