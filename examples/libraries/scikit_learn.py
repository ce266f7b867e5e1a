"""scikit-learn on manyhands: the backend is chosen from outside, the code that uses scikit-learn stays as it is.

pip install manyhands scikit-learn
"""

from __future__ import annotations

import joblib
from comparing import compare
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

import manyhands.joblib  # noqa: F401  registers the backend

x, y = make_classification(600, 20, random_state=0)


def search() -> list[float]:
    grid = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [0.001, 0.01, 0.1]}
    return GridSearchCV(SVC(), grid, cv=3, n_jobs=2).fit(x, y).cv_results_["mean_test_score"].tolist()


def validate() -> list[float]:
    return cross_val_score(RandomForestClassifier(60, random_state=0), x, y, cv=6, n_jobs=2).tolist()


def on_manyhands(work):
    def run():
        with joblib.parallel_config(backend="manyhands"):
            return work()

    return run


# No `if __name__ == "__main__"` is needed: with joblib, workers do not import the main module.
compare("GridSearchCV, 12 candidates", {"joblib's loky (default)": search, "manyhands": on_manyhands(search)})
compare("cross_val_score, 6 folds", {"joblib's loky (default)": validate, "manyhands": on_manyhands(validate)})
