"""Plans: what an experiment's phases need and take on a machine that is not there.

For a TPU slice the train step itself is compiled for its topology. For GPU servers, whose compiler needs the GPU, the
figures are those of the formulas alone, and named so.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.assembly.shapes import boxed_frozen
from experiments.experiment import Experiment
from experiments.initial import open_initial
from models.kernels.vocabulary import whole_scores
from training.parallel import Parallel, Sharded, TrainingError
from training.planning.hlo import Collective, Program
from training.planning.isolation import CompilerCrash
from training.planning.kernels import KernelWork, attention_work
from training.planning.memory import Memory, exceeded, held, saved_for_backward
from training.planning.topologies import Topology, absent_devices
from training.planning.traffic import lower_bound


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """One phase of an experiment on a topology. Work and bytes are those of one chip in one step.

    Attributes:
        steps: of the phase.
        length, batch_size: of the whole step; `rows` of it on one chip at a time.
        items: tokens or images of the whole step, `unit` says which.
        memory: see there.
        model_flops: 3 × the model's forward formula, and a teacher's once.
        counted_flops: XLA's count of the same step with layers laid out one by one and nothing computed twice.
        executed_flops: the same with what the remat policy computes again, and what kernels do in the place of XLA.
        attention: what computes it, `reference` or `kernel`.
        kernels: what kernels do of it, by their formulas.
        collectives: of the compiled program; `None` where it was not compiled.
        bound: bytes that the layout must send at the least.
        traffic: bytes to and from main memory.
        compile_seconds: `None` where nothing was compiled.
        thorough: whether the compiler optimised as it does for a run; see `QUICKLY`.
    """

    topology: Topology
    steps: int
    length: int
    batch_size: int
    items: int
    unit: str
    rows: int
    remat: str
    memory: Memory
    model_flops: float
    counted_flops: float
    executed_flops: float
    collectives: tuple[Collective, ...] | None
    bound: float
    traffic: float
    compile_seconds: float | None
    thorough: bool = False
    attention: str = "reference"
    kernels: KernelWork = KernelWork()
    program: Program | None = dataclasses.field(default=None, repr=False)

    @property
    def moved(self) -> float:
        """Bytes that leave the chip: of the compiled program, or the bound where there is none."""
        return self.bound if self.collectives is None else sum(c.moved for c in self.collectives)

    @property
    def compute_seconds(self) -> float:
        return self.executed_flops / self.topology.chip.flops

    @property
    def memory_seconds(self) -> float:
        return self.traffic / self.topology.chip.memory_bandwidth

    @property
    def network_seconds(self) -> float:
        return self.topology.seconds(self.moved)

    @property
    def step_seconds(self) -> float:
        """At best: arithmetic and memory overlap entirely and run at their peaks, the network waits for both."""
        return max(self.compute_seconds, self.memory_seconds) + self.network_seconds

    @property
    def items_per_second(self) -> float:
        return self.items / self.step_seconds

    @property
    def mfu(self) -> float:
        return self.model_flops / self.step_seconds / self.topology.chip.flops

    @property
    def hours(self) -> float:
        return self.steps * self.step_seconds / 3600


REFERENCE_PRODUCTS = {"none": 6, "dots": 8, "full": 8}
"""How many products as large as query · key the reference of attention takes in a step, by remat policy: two forward, four
backward, and two for what is computed again."""
QUICKLY = {"optimization_level": 9}
"""XLA's `EFFORT_O0`, which saves half of the compiler's time and more: it then overlaps less, and so takes up to a tenth less
memory."""
NEAR = 0.1
"""A quick answer that leaves, or lacks, no more than this fraction of a chip's memory is not relied on."""


def plan(
    experiment: Experiment, topology: Topology, phase: int, thorough: bool = False, counted: bool = True
) -> PhasePlan:
    """Compile (TPU) or reckon (GPU) a phase.

    Args:
        thorough: have the compiler optimise as it does for a run, also where a quick answer is clear.
        counted: count operations, too, which takes longer than the memory; where not, figures of arithmetic are NaN.

    Raises one of the project's errors where the parts do not fit one another, or the batch does not divide.
    """
    if topology.gpu:  # nothing is compiled, and of a mesh its shape alone counts
        devices = jax.devices("cpu")[:1] * topology.chips
        return plan_on(experiment, topology, phase, devices, compiled=False, counted=counted)
    return plan_on(experiment, topology, phase, absent_devices(topology), thorough=thorough, counted=counted)


def plan_on(
    experiment: Experiment,
    topology: Topology,
    phase: int,
    devices: Sequence[jax.Device],
    *,
    compiled: bool = True,
    thorough: bool = False,
    counted: bool = True,
) -> PhasePlan:
    """`plan` for given devices, the topology telling their speed."""
    if experiment.initial_model is not None:
        experiment = open_initial(experiment, outlined=True).adopted_by(experiment)
    assembly = assemble(experiment, data=experiment.outline, devices=devices).at(phase)
    found = reckon(assembly, topology, phase)
    if counted:
        found = with_operations(found, assembly, phase)
    if not compiled:
        return found
    if not thorough:
        quick = compile_plan(found, assembly, phase, thorough=False)
        if abs(quick.memory.total - quick.memory.limit) > NEAR * quick.memory.limit:
            return quick
    return compile_plan(found, assembly, phase, thorough=True)


def reckon(assembly: Assembly, topology: Topology, phase: int) -> PhasePlan:
    """The plan of a phase before anything is compiled, its operations not counted yet."""
    experiment, mesh = assembly.experiment, assembly.spread.mesh
    boxed = assembly.boxed_state_shapes()
    params = nn.unbox(boxed).params
    state = assembly.spread.shapes(boxed)
    parameters, gradients = held(state.params), held(assembly.update.split(state.params)[0])
    frozen = held(assembly.frozen_shapes())
    optimizer = held((state.opt_state, state.batch_stats, state.average))
    activations = saved_for_backward(*step_on_a_chip(assembly, phase))
    ends = experiment.phase_ends
    return PhasePlan(
        topology,
        steps=ends[phase] - (ends[phase - 1] if phase else 0),
        length=experiment.form(phase).length,
        batch_size=experiment.batch_size,
        items=assembly.work(phase)[0],
        unit=experiment.form(phase).items,
        rows=rows_of_a_chip(experiment, mesh.size),
        remat=experiment.model.remat,
        memory=Memory(
            parameters + frozen,
            optimizer,
            activations,
            temporaries=gradients + activations,
            total=parameters + gradients + frozen + optimizer + activations,
            limit=int(topology.chip.memory),
        ),
        model_flops=math.nan,
        counted_flops=math.nan,
        executed_flops=math.nan,
        collectives=None,
        bound=lower_bound(mesh, params, param_shardings(assembly), experiment.model.dtype),
        # Each activation is written and read once; the optimizer reads and writes parameters and moments, and the
        # gradients, as large as the parameters, are written and read. What is not trained is read, a teacher too.
        traffic=2.0 * (activations * experiment.parallel.micro_batches + 2 * gradients + optimizer)
        + parameters
        - gradients
        + frozen,
        compile_seconds=None,
        attention=assembly.student.config.attention,
    )


def with_operations(plan: PhasePlan, assembly: Assembly, phase: int) -> PhasePlan:
    """The plan of a phase with its operations counted."""
    experiment, chips = assembly.experiment, assembly.spread.mesh.size
    parallel, remat = experiment.parallel, experiment.model.remat
    kernels, product = attention_work(*step_on_a_chip(assembly, phase))
    kernels, products = (x * (parallel.micro_batches / parallel.tensor) for x in (kernels, product))
    one = on_one_chip(experiment, plan.rows * parallel.micro_batches)
    needed = unscanned_flops(one, phase, "none")
    executed = needed if remat == "none" else unscanned_flops(one, phase, remat)
    return dataclasses.replace(
        plan,
        model_flops=assembly.work(phase)[1] / chips,
        counted_flops=needed / parallel.tensor,
        executed_flops=executed / parallel.tensor + kernels.flops - REFERENCE_PRODUCTS[remat] * products,
        kernels=kernels,
    )


def rows_of_a_chip(experiment: Experiment, chips: int) -> int:
    """Examples that a chip, or the chips of one tensor, hold at a time."""
    return experiment.batch_size * experiment.parallel.tensor // chips // experiment.parallel.micro_batches


def step_on_a_chip(assembly: Assembly, phase: int) -> tuple:
    """The arguments of `training_loss` for one micro-batch of one chip."""
    rows = rows_of_a_chip(assembly.experiment, assembly.spread.mesh.size)
    example = assembly.data.training(assembly.form(phase), 0)[0]
    batch = {name: jax.ShapeDtypeStruct((rows, *value.shape), value.dtype) for name, value in example.items()}
    teacher = None if assembly.frozen_spread is None else nn.unbox(boxed_frozen(assembly.teacher.model))
    variables = nn.unbox(assembly.boxed_state_shapes()).variables
    return assembly.model, assembly.training_objective, assembly.update, variables, batch, teacher


def on_one_chip(experiment: Experiment, rows: int) -> Experiment:
    """What one chip does in a step, as an experiment of its own."""
    return dataclasses.replace(experiment, batch_size=rows, parallel=Parallel(kind="jit", devices=1))


def unscanned_flops(experiment: Experiment, phase: int, remat: str) -> float:
    """XLA's count of a step's operations, with the layers laid out one by one, and scores of a vocabulary whole, so that it sees
    them all.

    Attention is that of the reference. XLA counts the program before optimisation, so nothing needs to be compiled; other
    operations than matrix products are in it.
    """
    model = dataclasses.replace(experiment.model, scan_layers=False, remat=remat, attention="reference")
    experiment = dataclasses.replace(experiment, model=model)
    outlined = assemble(experiment, data=experiment.outline, devices=jax.devices("cpu"))
    with whole_scores():
        return float(outlined.lower_train_step(phase).cost_analysis()["flops"])


def param_shardings(assembly: Assembly) -> PyTree:
    """How a layout cuts the whole parameters: under `pmap` not at all."""
    spread = assembly.spread
    if isinstance(spread, Sharded):
        return spread.shardings.params
    whole = NamedSharding(spread.mesh, PartitionSpec())
    return jax.tree.map(lambda _: whole, nn.unbox(assembly.boxed_state_shapes()).params)


def compile_plan(reckoned: PhasePlan, assembly: Assembly, phase: int, thorough: bool) -> PhasePlan:
    """The plan with the compiler's own figures of memory and collectives."""
    lowered = assembly.lower_train_step(phase)
    begin = time.perf_counter()
    try:
        compiled = lowered.compile({} if thorough else QUICKLY)
    except jax.errors.JaxRuntimeError as error:
        state = reckoned.memory.parameters + reckoned.memory.optimizer
        sizes = exceeded(str(error), state)
        if sizes is None:
            raise TrainingError(
                f"the compiler refuses the step on {reckoned.topology.name}: {str(error).splitlines()[0][:300]}"
            ) from error
        total, limit = sizes
        memory = dataclasses.replace(reckoned.memory, total=total, limit=limit, temporaries=total - state)
        seconds = time.perf_counter() - begin
        return dataclasses.replace(reckoned, memory=memory, compile_seconds=seconds, thorough=thorough)
    seconds = time.perf_counter() - begin
    sizes = compiled.memory_analysis()
    total = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    total += sizes.temp_size_in_bytes + sizes.generated_code_size_in_bytes
    program = Program(compiled.as_text())
    return dataclasses.replace(
        reckoned,
        memory=dataclasses.replace(reckoned.memory, temporaries=sizes.temp_size_in_bytes, total=total),
        collectives=tuple(program.collectives()),
        traffic=program.traffic(),
        compile_seconds=seconds,
        thorough=thorough,
        program=program,
    )


POLICIES = ("none", "dots", "full")
"""Remat policies, the cheapest in arithmetic first."""


Planner = Callable[..., PhasePlan]
"""`plan`, or what takes the same: an experiment, a topology and a phase, and `counted`."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        rows: examples of the experiment's own batch on one chip at a time.
        cheapest: that batch under the cheapest policy that fits; `None` where none does.
        largest: for each policy the plan of the largest batch that fits; `None` where not even `quantum` examples do.
        quantum: examples that a chip's batch is a multiple of.
    """

    rows: int
    cheapest: PhasePlan | None
    largest: dict[str, PhasePlan | None]
    quantum: int


def search(
    experiment: Experiment,
    topology: Topology,
    phase: int,
    quantum: int = 8,
    planner: Planner = plan,
    say: Callable[[str], None] = print,
) -> Search:
    """The cheapest policy that fits at the experiment's batch, and the largest batch per chip under each.

    A policy that the compiler crashes on is left out. Where nothing is compiled the operations of those plans alone are counted
    that are the answer.
    """
    shards = topology.chips // experiment.parallel.tensor * experiment.parallel.micro_batches
    own = experiment.batch_size // shards
    known: dict[tuple[str, int], PhasePlan] = {}
    cheapest, largest = None, {}

    def planned(remat: str, batch_size: int, counted: bool) -> PhasePlan:
        model = dataclasses.replace(experiment.model, remat=remat)
        one = dataclasses.replace(experiment, model=model, batch_size=batch_size)
        return planner(one, topology, phase, counted=counted)

    def tried(remat: str, batch_size: int) -> PhasePlan:
        if (remat, batch_size) not in known:
            plan = planned(remat, batch_size, counted=not topology.gpu)
            say(f"  remat {remat}, {plan.rows} examples a chip: {plan.memory}")
            known[remat, batch_size] = plan
        return known[remat, batch_size]

    def whole(plan: PhasePlan | None) -> PhasePlan | None:
        return planned(plan.remat, plan.batch_size, counted=True) if plan and topology.gpu else plan

    for remat in POLICIES:
        largest[remat] = None
        try:
            if cheapest is None and tried(remat, experiment.batch_size).memory.fits:
                cheapest = known[remat, experiment.batch_size]
            first = max(1, own // quantum) * quantum
            rows = largest_that_fits(lambda rows: tried(remat, rows * shards).memory, first, quantum)  # noqa: B023
            largest[remat] = known[remat, rows * shards] if rows else None
        except CompilerCrash as crash:
            say(f"  remat {remat}: {crash}")
    return Search(own, whole(cheapest), {remat: whole(plan) for remat, plan in largest.items()}, quantum)


def largest_that_fits(memory: Callable[[int], Memory], first: int, quantum: int) -> int:
    """The largest multiple of `quantum` rows whose memory fits; 0 where none does.

    Memory being nearly a straight line over rows, each try is where the line through the last two tries meets the limit,
    and halves what is left where that does not end soon; the answer fits, and `quantum` rows more do not.

    Args:
        memory: of so many rows.
        first: where to begin.
    """
    fits, fails = 0, math.inf
    before = latest = None
    rows = first
    for tries in itertools.count(1):
        before, latest = latest, (rows, memory(rows))
        if latest[1].fits:
            fits = max(fits, rows)
        else:
            fails = min(fails, rows)
        if fails - fits <= quantum:
            return fits
        fixed = latest[1].parameters + latest[1].optimizer
        slope = (latest[1].total - fixed) / rows
        most = 32 * rows
        if before is not None:
            slope, most = (latest[1].total - before[1].total) / (rows - before[0]), math.inf
        guess = rows + (latest[1].limit - latest[1].total) / slope if slope > 0 else 2 * rows
        if tries > 5 and fails < math.inf:  # the line is none: halve what is left
            guess = (fits + fails) / 2
        rows = int(max(fits + quantum, min(guess // quantum * quantum, fails - quantum, most)))
