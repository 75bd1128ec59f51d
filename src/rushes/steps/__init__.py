"""One module a step: a plain function, paths and a recipe in, a manifest out.

`STEPS` is the one list of them, in order; the pipeline, dvc.yaml and the command line are made from it.
"""

STEPS = ("pin", "sample", "pretrain", "finetune", "choose", "evaluate", "export", "register", "promote", "deploy")
