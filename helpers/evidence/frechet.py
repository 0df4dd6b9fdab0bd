"""The Fréchet distance of feature sets: of two, or of very many subsets to one real set, without a matrix root.

|mean difference|^2 + tr(Sx) + tr(Sy) - 2 tr((Sx Sy)^(1/2)). With Sy = F^T F, the last term is the sum of the roots of
the eigenvalues of F Sx F^T, or of the equal ones of a Gram matrix where there are fewer images than features. A root
magnifies the rounding of small eigenvalues: what that may cost is added up, and where it would show, the sum is taken
of singular values instead, which is exact and slower. Explained in notebook 03.
"""

import torch
from torch.nn import functional as F

BYTES = 2**28  # what one batch of subsets may take; their features and projections may take four times that
BLOCK = 512  # columns of a symmetric product computed at once
DOUBT = 1e-6  # relative error of a distance from which on singular values are taken


def frechet_distance(x, y):
    """Return the Fréchet distance of two feature sets as Gaussians: (N, D), (M, D) -> float >= 0.

    Exact in float64 also for fewer samples than features. Small sets give large distances even to themselves: compare
    at equal N, beside a real-against-real floor. Raises ValueError for fewer than 2 samples, different widths, NaN or
    infinity. Source: Heusel et al. 2017. Explained in notebook 03.
    """
    return frechet_to(y)(x)


def frechet_to(y):
    """Prepare the Fréchet distance to one set (M, D): returns a function of x (N, D) -> float, which pickles.

    Its method `subsets(features, rows)` compares many subsets at once, such as the top images of every unit.
    Explained in notebook 03.
    """
    return FrechetTo(y)


def frechet_distances(features, rows, real):
    """Return the Fréchet distance of many subsets to one real set: (N, D), (S, k), (M, D) -> float64 (S,).

    rows: of `features`, one subset a line. Equals one `frechet_distance(features[rows[i]], real)` each to 1e-6, at
    bounded memory. Raises ValueError as that does, and for rows that are no (S, k >= 2) row numbers.
    Explained in notebook 03.
    """
    return frechet_to(real).subsets(features, rows)


class FrechetTo:
    """The distance to one set of features, whose mean and factor of the covariance are prepared once."""

    def __init__(self, y):
        y = checked(y, "y")
        self.mean = y.mean(dim=0)
        self.factor = _factor(y, self.mean)  # (R, D), R the smaller one of M - 1 and D
        self.trace = self.factor.square().sum()
        self.size = (self.factor @ self.factor.T).norm()  # of the covariance: what its rounding goes by

    def __call__(self, x):
        """Return the distance of x (N, D) to the prepared set as a float."""
        x = checked(x, "x")
        same_width(x, self.factor)
        mean, count = x.mean(dim=0), len(x) - 1
        if len(x) <= x.shape[1]:
            rows = contrasts(x, 0) / count**0.5
            own, projected = rows.square().sum(), rows @ self.factor.T
            small = projected.T if len(projected) <= projected.shape[1] else projected
            product, scale = _scatter(small), projected.square().sum()
        else:
            covariance = _scatter(x - mean).div_(count)
            own, product = covariance.trace(), _congruence(covariance, self.factor.T)
            scale = covariance.norm() * self.size
        cross, doubt = _roots(product, scale)
        rest = (mean - self.mean).square().sum() + own + self.trace
        if 2 * doubt > DOUBT * (rest - 2 * cross):
            if len(x) > x.shape[1]:
                projected = torch.linalg.qr((x - mean) / count**0.5, mode="r").R @ self.factor.T
            cross = torch.linalg.svdvals(projected).sum()
        return max(float(rest - 2 * cross), 0.0)  # rounding only

    def subsets(self, features, rows):
        """Return the distances of many subsets: features (N, D), row numbers (S, k) -> float64 (S,)."""
        features, rows = torch.as_tensor(features), torch.as_tensor(rows)
        _check_rows(rows, len(features))
        pool, local = rows.unique(return_inverse=True)
        rank, width = self.factor.shape
        if len(rows) > 1 and 8 * len(pool) * (rank + width) > 4 * BYTES:
            return torch.cat([self.subsets(features, part) for part in rows.chunk(2)])
        found = checked(features[pool], "features", numbers=pool)
        same_width(found, self.factor)
        found = found - self.mean
        projected = found @ self.factor.T
        # Constants cancel within every subset, and the smaller the numbers, the smaller their rounding.
        projected -= projected.mean(dim=0)
        return self._batches(found, projected, local.to(found.device))

    def _batches(self, found, projected, rows):
        """Go through subsets in batches: centred features (P, D), their projections (P, R), rows (S, k) of these."""
        k, rank = rows.shape[1], projected.shape[1]
        low = k - 1 <= rank
        # Subsets that share many images share the inner products, too.
        shared = low and len(found) ** 2 <= min(rows.numel() * k, BYTES // 8)
        products = projected @ projected.T if shared else None
        lengths, sizes, out = found.square().sum(dim=1), projected.square().sum(dim=1), []
        for part in rows.split(max(1, BYTES // (16 * (k * k if shared else k * rank + min(k, rank) ** 2)))):
            apart = F.embedding_bag(part, found, mode="mean").square().sum(dim=1)
            own = (lengths[part].sum(dim=1) - k * apart) / (k - 1)
            if shared:
                product = contrasts(contrasts(products[part[:, :, None], part[:, None, :]], 1), 2)
            else:
                centred = contrasts(projected[part], 1)
                product = centred @ centred.mT if low else centred.mT @ centred
            cross, doubt = _roots(product / (k - 1), sizes[part].sum(dim=1) / (k - 1))
            rest = apart + own + self.trace
            for i in (2 * doubt > DOUBT * (rest - 2 * cross)).nonzero().flatten().tolist():
                cross[i] = torch.linalg.svdvals(contrasts(projected[part[i]], 0)).sum() / (k - 1) ** 0.5
            out.append((rest - 2 * cross).clamp_min(0))
        return torch.cat(out)


def checked(x, name, least=2, numbers=None):
    """Check features and make them float64: (N, D); numbers: what their rows are called in an error."""
    x = torch.as_tensor(x).detach().double()
    if x.ndim != 2 or len(x) < least or not x.shape[1]:
        raise ValueError(
            f"features {name} must be (N, D) with at least {least} samples, got shape {tuple(x.shape)}: "
            "pass one row per image, of enough images"
        )
    bad = (~x.sum(dim=1).isfinite()).nonzero().flatten()
    if len(bad):
        row = int(bad[0] if numbers is None else numbers[bad[0]])
        raise ValueError(f"features {name} hold NaN or infinity in row {row} ({len(bad)} such): remove those images")
    return x


def same_width(x, y):
    """Return both if they are equally wide, else raise ValueError."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features are {x.shape[1]} and {y.shape[1]} wide: take both from the same network")
    return x, y


def contrasts(x, dim):
    """Reflect the mean into the first place of a dimension and drop it: one fewer, with the same scatter."""
    n = x.shape[dim]
    root = n**-0.5
    first, others = x.narrow(dim, 0, 1), x.narrow(dim, 1, n - 1)
    return others - (root * x.sum(dim, keepdim=True) - first) * (root / (1 - root))


def _factor(x, mean):
    """Return F with F^T F the covariance of x, as few rows as it takes."""
    if len(x) <= x.shape[1]:
        return contrasts(x, 0) / (len(x) - 1) ** 0.5
    lower, fault = torch.linalg.cholesky_ex(_scatter(x - mean).div_(len(x) - 1))
    pivots = lower.diagonal().square()
    if fault or pivots.min() < 1e-8 * pivots.max():  # nearly flat in some direction, which squares would blur
        return torch.linalg.qr((x - mean) / (len(x) - 1) ** 0.5, mode="r").R
    return lower.T


def _scatter(x):
    """Return x^T x, every block of it computed once."""
    out = x.new_empty(x.shape[1], x.shape[1])
    for start in range(0, len(out), BLOCK):
        rows = slice(start, start + BLOCK)
        out[rows, : rows.stop] = x[:, rows].T @ x[:, : rows.stop]
        out[:start, rows] = out[rows, :start].T
    return out


def _congruence(s, right):
    """Return right^T s right for a symmetric s, in the lower triangle only; faster where right is triangular."""
    out = s.new_zeros(right.shape[1], right.shape[1])
    triangular = right.shape[0] == right.shape[1] and not right.triu(1).any()
    for start in range(0, len(out), BLOCK):
        rows = slice(start if triangular else 0, None)  # above them, these columns are zero
        part = s[rows, rows] @ right[rows, start : start + BLOCK]
        out[start:, start : start + BLOCK] = right[rows, start:].T @ part
    return out


def _roots(product, scale):
    """Sum the roots of the eigenvalues of (..., R, R), and how far rounding at that scale may have moved the sum."""
    values = torch.linalg.eigvalsh(product)
    roots, noise = values.clamp_min(0).sqrt(), 4 * torch.finfo(values.dtype).eps * scale[..., None]
    return roots.sum(dim=-1), torch.minimum(noise.sqrt(), noise / (2 * roots)).sum(dim=-1)


def _check_rows(rows, count):
    if rows.ndim != 2 or rows.is_floating_point() or rows.dtype == torch.bool or rows.shape[1] < 2 or not len(rows):
        raise ValueError(
            f"rows must be whole numbers (subsets, images) with at least 2 images each, got {rows.dtype} "
            f"{tuple(rows.shape)}: pass one line of row numbers per subset"
        )
    if int(rows.min()) < 0 or int(rows.max()) >= count:
        raise ValueError(
            f"rows go from {int(rows.min())} to {int(rows.max())}, but there are features of {count} images: "
            "pass the features of all surveyed images"
        )
