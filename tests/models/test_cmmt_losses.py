"""CMMT's losses against loops in float64."""

import math

import numpy as np
import pytest
import torch

from mmreid_text.models.losses import (
    ClusterMemory,
    CMPCLoss,
    CMPMLoss,
    HardMiningLoss,
    TextIoUCMPMLoss,
    cmpm_loss,
    moved_centroids,
)


def unit(x):
    return x / np.linalg.norm(x)


def log_softmax(row):
    top = max(row)
    total = sum(math.exp(x - top) for x in row)
    return [x - top - math.log(total) for x in row]


@pytest.fixture(params=range(4))
def batch(request):
    """Images and captions (B, D), and a symmetric affinity with ones on its diagonal and zeros elsewhere in places."""
    rng = np.random.default_rng(request.param)
    n, d = int(rng.integers(3, 10)), int(rng.integers(2, 12))
    image, text = rng.normal(size=(n, d)) * 3, rng.normal(size=(n, d)) * 2
    affinity = rng.choice([0, 0.1, 0.2, 0.4, 0.5, 0.8], (n, n))
    affinity = np.maximum(affinity, affinity.T)
    np.fill_diagonal(affinity, 1)
    return image, text + image, affinity


def tensors(*arrays):
    return [torch.from_numpy(x) for x in arrays]


def naive_cmpm(image, text, affinity, tau, both_ways):
    n, total = len(image), 0.0
    for a, b in ((text, image), (image, text))[: 1 + both_ways]:
        for i in range(n):
            projected = a[i] if tau is None else unit(a[i]) / tau
            log_p = log_softmax([projected @ unit(b[j]) for j in range(n)])
            mass = sum(affinity[i])
            for j in range(n):
                total += math.exp(log_p[j]) * (log_p[j] - math.log(affinity[i][j] / mass + 1e-8)) / n
    return total


@pytest.mark.parametrize("tau", [None, 0.05])
@pytest.mark.parametrize("both_ways", [True, False])
def test_text_iou_cmpm_equals_the_formula(batch, tau, both_ways):
    got = TextIoUCMPMLoss(tau, both_ways)(*tensors(*batch))
    assert got.dtype == torch.float64
    assert float(got) == pytest.approx(naive_cmpm(*batch, tau, both_ways), rel=1e-9)
    image, text, affinity = batch
    cubed = TextIoUCMPMLoss(tau, both_ways, power=3)(*tensors(*batch))
    assert float(cubed) == pytest.approx(naive_cmpm(image, text, affinity**3, tau, both_ways), rel=1e-9)


def test_plain_cmpm_takes_pairs_of_equal_pid(batch):
    image, text, _ = batch
    pid = np.arange(len(image)) // 2
    same = (pid[:, None] == pid[None, :]).astype(float)
    got = CMPMLoss()(*tensors(image, text, pid))
    assert float(got) == pytest.approx(naive_cmpm(image, text, same, None, True), rel=1e-9)
    assert float(got) == pytest.approx(float(cmpm_loss(*tensors(image, text, same))), rel=1e-12)


def naive_mining(image, text, affinity, topk, positive, negative, margin, kinds):
    n, total = len(image), 0.0
    pairs = {"cross": ((text, image), (image, text)), "intra": ((image, image), (text, text))}
    for kind in kinds:
        for anchors, others in pairs[kind]:
            losses = []
            for i in range(n):
                s = [unit(anchors[i]) @ unit(others[j]) for j in range(n)]
                ranked = sorted((j for j in range(n) if kind == "cross" or j != i), key=lambda j: -s[j])[:topk]
                positives = {j for j in ranked if affinity[i][j] >= positive and j != i}
                if kind == "cross":
                    positives.add(i)
                negatives = [j for j in ranked if affinity[i][j] <= negative and j != i]
                if positives and negatives:
                    worst = max(s[j] for j in negatives)
                    losses.append(np.mean([max(0, margin + worst - s[j]) for j in positives]))
            total += np.mean(losses) / 2 if losses else 0
    return total


@pytest.mark.parametrize("kinds", [("cross",), ("intra",), ("cross", "intra")])
@pytest.mark.parametrize("topk", [3, 20])
def test_hard_mining_equals_loops(batch, kinds, topk):
    loss = HardMiningLoss(topk=topk, positive=0.5, negative=0.2, margin=0.4, kinds=kinds)
    expected = naive_mining(*batch, topk, 0.5, 0.2, 0.4, kinds)
    assert float(loss(*tensors(*batch))) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_pairs_whose_affinity_is_not_known_are_neither_alike_nor_different(batch):
    image, text, affinity = batch
    unknown = affinity.copy()
    unknown[:, 2] = unknown[2] = np.nan
    unknown[2, 2] = 1
    loss = HardMiningLoss(topk=20, positive=0.5, negative=0.2, margin=0.4)
    expected = naive_mining(image, text, unknown, 20, 0.5, 0.2, 0.4, ("cross", "intra"))  # NaN compares as false
    assert float(loss(*tensors(image, text, unknown))) == pytest.approx(expected, rel=1e-9)
    assert expected != naive_mining(image, text, affinity, 20, 0.5, 0.2, 0.4, ("cross", "intra"))
    matched = TextIoUCMPMLoss(power=2)
    assert matched(*tensors(image, text, unknown)) == matched(*tensors(image, text, np.nan_to_num(unknown)))


def test_hard_mining_without_any_triplet_costs_nothing_and_has_a_gradient():
    image, text = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    loss = HardMiningLoss()(image, text, torch.eye(4) + 0.3)
    loss.backward()
    assert float(loss) == 0
    assert not image.grad.any()
    alone = HardMiningLoss()(image[:1], text[:1], torch.ones(1, 1))
    alone.backward()
    assert float(alone) == 0


def test_hard_mining_gradient_equals_finite_differences():
    torch.manual_seed(1)
    image, text = (torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    affinity = torch.tensor(np.kron(np.eye(3), np.ones((2, 2))))
    loss = HardMiningLoss(margin=1.0)
    assert float(loss(image, text, affinity)) > 0
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, affinity), (image, text))


def naive_cluster(feats, centroids, label, tau):
    terms = [-log_softmax([unit(f) @ c / tau for c in centroids])[k] for f, k in zip(feats, label) if k >= 0]
    return np.mean(terms) if terms else 0.0


def naive_move(centroids, feats, label, momentum):
    moved = centroids.copy()
    for k in range(len(centroids)):
        members = [unit(f) for f, own in zip(feats, label) if own == k]
        if members:
            moved[k] = unit(momentum * centroids[k] + (1 - momentum) * np.mean(members, axis=0))
    return moved


@pytest.mark.parametrize("seed", range(4))
def test_cluster_memory_equals_loops_and_follows_the_features(seed):
    rng = np.random.default_rng(seed)
    feats, centroids = rng.normal(size=(9, 5)), np.stack([unit(c) for c in rng.normal(size=(4, 5))])
    label = rng.integers(-1, 3, 9)  # nothing of cluster 3, something of none
    memory = ClusterMemory(tau=0.05, momentum=0.2)
    memory.centroids = torch.from_numpy(centroids)
    got = memory(*tensors(feats, label))
    assert float(got) == pytest.approx(naive_cluster(feats, centroids, label, 0.05), rel=1e-9)
    moved = naive_move(centroids, feats, label, 0.2)
    np.testing.assert_allclose(memory.centroids.numpy(), moved, rtol=1e-9)
    np.testing.assert_array_equal(memory.centroids[3].numpy(), centroids[3])
    memory.eval()
    assert float(memory(*tensors(feats, label))) == pytest.approx(naive_cluster(feats, moved, label, 0.05), rel=1e-9)
    np.testing.assert_allclose(memory.centroids.numpy(), moved, rtol=1e-9)


def test_the_gradient_reads_the_centroids_from_before_the_move():
    torch.manual_seed(0)
    memory = ClusterMemory()
    feats, label = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, -1, 0])
    start = torch.nn.functional.normalize(torch.randn(2, 3, dtype=torch.float64), dim=1)
    memory.centroids = start
    memory(feats, label).backward()
    assert feats.grad[[0, 1, 3]].abs().sum(dim=1).min() > 0
    assert not feats.grad[2].any()
    memory.eval()
    memory.centroids = start
    (again,) = torch.autograd.grad(memory(feats, label), feats)
    assert torch.equal(again, feats.grad)


@pytest.mark.parametrize("label", [[-1, -1], [0, 0]])
@pytest.mark.parametrize("count", [0, 1])
def test_no_cluster_one_cluster_and_only_outliers_cost_nothing(label, count):
    memory = ClusterMemory()
    feats = torch.randn(2, 3, requires_grad=True)
    assert float(memory(feats, torch.tensor(label))) == 0  # no pseudo labels yet
    memory.centroids = torch.eye(3)[:count]
    loss = memory(feats, torch.tensor(label).clamp(max=count - 1))
    loss.backward()
    assert float(loss) == 0
    assert memory.centroids.shape == (count, 3)
    assert memory.centroids.isfinite().all()


def test_members_of_a_cluster_move_it_in_any_order():
    torch.manual_seed(0)
    centroids, feats = torch.eye(4), torch.randn(6, 4)
    label, order = torch.tensor([0, 1, 0, -1, 0, 1]), torch.tensor([4, 1, 3, 5, 0, 2])
    one = moved_centroids(centroids, feats, label)
    torch.testing.assert_close(moved_centroids(centroids, feats[order], label[order]), one, rtol=1e-6, atol=1e-7)
    assert torch.equal(centroids, torch.eye(4))


def naive_cmpc(image, text, weight, label):
    terms = []
    for v, t, k in zip(image, text, label):
        if k >= 0:
            on_text, on_image = (v @ unit(t)) * unit(t), (t @ unit(v)) * unit(v)
            terms.append(sum(-log_softmax([unit(w) @ x for w in weight])[k] for x in (on_text, on_image)))
    return np.mean(terms)


def test_cmpc_equals_loops(batch):
    image, text, _ = batch
    rng = np.random.default_rng(0)
    weight, label = rng.normal(size=(3, image.shape[1])), rng.integers(-1, 3, len(image))
    label[0] = 2
    got = CMPCLoss()(*tensors(image, text, weight, label))
    assert float(got) == pytest.approx(naive_cmpc(image, text, weight, label), rel=1e-9)
    nothing = CMPCLoss()(*tensors(image, text, weight, np.full(len(image), -1)))
    assert float(nothing) == 0


@pytest.mark.parametrize("loss", [CMPMLoss(0.05), TextIoUCMPMLoss(), HardMiningLoss(), ClusterMemory(), CMPCLoss()])
def test_losses_run_in_float32_under_autocast(loss):
    torch.manual_seed(0)
    image, text = torch.randn(8, 16), torch.randn(8, 16)
    third = torch.arange(8) // 2
    args = {
        CMPMLoss: (image, text, third),
        TextIoUCMPMLoss: (image, text, (third[:, None] == third).float()),
        HardMiningLoss: (image, text, (third[:, None] == third).float()),
        ClusterMemory: (image, third),
        CMPCLoss: (image, text, torch.randn(4, 16), third),
    }[type(loss)]
    loss.eval()
    if isinstance(loss, ClusterMemory):
        loss.centroids = torch.eye(16)[:4]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = loss(*args)
    assert lowered.dtype == torch.float32
    assert float(lowered) > 0
    assert torch.equal(lowered, loss(*args))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CMPMLoss(tau=0), "CMPMLoss: tau must be above 0, or None"),
        (lambda: TextIoUCMPMLoss(tau=-1), "TextIoUCMPMLoss: tau must be above 0"),
        (lambda: TextIoUCMPMLoss(power=0), "power must be above 0"),
        (lambda: HardMiningLoss(topk=0), "topk >= 1"),
        (lambda: HardMiningLoss(positive=0.2, negative=0.5), "0 <= negative < positive"),
        (lambda: HardMiningLoss(kinds=["image"]), r"some of \('cross', 'intra'\)"),
        (lambda: ClusterMemory(tau=0), "tau > 0"),
        (lambda: ClusterMemory(momentum=1.5), r"momentum in \[0, 1\]"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
