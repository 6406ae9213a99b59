"""Data: sets that ship with the package, readers of files, splits, scales, and batches of it."""

from pullback.data.digits import Digits, digits
from pullback.data.idx import LabelledImages, read_idx, read_mnist
from pullback.data.labels import LabelEncoder, Standardizer, require_every_class
from pullback.data.loader import Crops, DataLoader
from pullback.data.split import Split, split
from pullback.data.table import Table, read_csv, read_parquet
from pullback.data.text import Bytes, Characters, read_text

__all__ = [
    "Bytes",
    "Characters",
    "Crops",
    "DataLoader",
    "Digits",
    "LabelEncoder",
    "LabelledImages",
    "Split",
    "Standardizer",
    "Table",
    "digits",
    "read_csv",
    "read_idx",
    "read_mnist",
    "read_parquet",
    "read_text",
    "require_every_class",
    "split",
]
