"""What a person would write instead, without handicap.

job           what is to be searched, as plain data: every side gets the same
finetune      the tutorial's training: ImageFolder, DataLoader, a torchvision model, a new head
plain_optuna  `study.optimize` around it, on the same Postgres
ray_tune      Ray Tune with OptunaSearch and ASHA around it (extra `bench`)

Nothing here imports tunesvc.

Source: PyTorch's "Transfer Learning for Computer Vision Tutorial"; Optuna's example
`pytorch/pytorch_simple.py`; Ray's guide "Running Tune experiments with Optuna".
"""
