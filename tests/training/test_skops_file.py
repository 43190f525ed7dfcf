"""skops files: the same model gives the same bytes in any process, and reads back as it was."""

import subprocess
import sys

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from ecluse.core.errors import Corrupt, Unsupported
from ecluse.training.skops_file import canonical, dump, load

X = np.random.default_rng(0).normal(size=(80, 4))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)

STACK = [("boosting", HistGradientBoostingClassifier(max_iter=3)), ("bayes", GaussianNB())]
ESTIMATORS = [
    KNeighborsClassifier(),
    GaussianNB(),
    SVC(kernel="rbf"),
    MLPClassifier(5, max_iter=5, random_state=0),
    GaussianProcessClassifier(),
    StackingClassifier(STACK, LogisticRegression(), cv=2),
    StackingClassifier([("lgbm", LGBMClassifier(n_estimators=3, verbose=-1))], cv=2),
    StackingClassifier([("xgb", XGBClassifier(n_estimators=3))], cv=2),
    make_pipeline(StandardScaler(), KNeighborsClassifier(algorithm="ball_tree")),
]

PROCESS = """
import hashlib, sys, time
import numpy as np
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.ensemble import VotingClassifier
padding = [object() for _ in range(int(sys.argv[1]))]  # other addresses
real = time.localtime
time.localtime = lambda *a: real(time.time() + 1e8 * int(sys.argv[1]))
from ecluse.training.skops_file import dump
X = np.random.default_rng(0).normal(size=(80, 4)); Y = (X[:, 0] > 0).astype(int)
model = VotingClassifier([("k", KNeighborsClassifier()), ("b", GaussianNB())]).fit(X, Y)
print(hashlib.sha256(dump(model)).hexdigest())
"""


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda each: type(each).__name__)
def test_reads_back_and_is_canonical(estimator: object) -> None:
    fitted = estimator.fit(X, Y)  # type: ignore[attr-defined]
    data = dump(fitted)
    assert dump(fitted) == data
    assert canonical(data) == data
    assert np.array_equal(load(data).predict(X), fitted.predict(X))


def test_two_processes_write_the_same_bytes() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROCESS, salt],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": salt},
            timeout=120,
        )
        for salt in ("1", "2")
    ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout


def test_a_function_of_the_user_s_is_refused_by_name() -> None:
    from sklearn.preprocessing import FunctionTransformer

    with pytest.raises(Unsupported, match="_mine"):
        dump(make_pipeline(FunctionTransformer(_mine), GaussianNB()).fit(X, Y))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nothing", b"\x00" * 100])
def test_other_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        load(data)


def _mine(x: object) -> object:
    return x
