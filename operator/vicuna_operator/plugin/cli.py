"""`kubectl vicuna`: the state of a VicunaModel, rollback, retry, wait."""

import argparse
import functools
from collections.abc import Callable, Sequence

from vicuna_contract.arguments import Parser, bounded, positive
from vicuna_contract.program import program
from vicuna_operator import __version__
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin import chat, commands
from vicuna_operator.plugin.key_commands import add_key_arguments, run_key
from vicuna_operator.plugin.kubectl import Kubectl, KubectlProcess
from vicuna_operator.plugin.logs import show_logs
from vicuna_operator.plugin.terminal import warn
from vicuna_operator.plugin.usage_commands import add_usage_arguments, run_usage

__all__ = ["create_parser", "main"]

_USAGE = "Requests and tokens that the gateway counted, by day, key and model."


@program(interrupted=130)
def main(argv: Sequence[str] | None = None, *, connect: Callable[[Sequence[str]], Kubectl] = KubectlProcess) -> int:
    """Run the command line; return its exit code (64: wrong usage, else kubectl's own)."""
    args = create_parser().parse_args(argv)
    flags = [
        f"--{name}={value}"
        for name in ("namespace", "context", "kubeconfig")
        if (value := getattr(args, name)) is not None
    ]
    try:
        return int(args.run(connect(flags), args))
    except PluginError as error:
        warn(f"kubectl vicuna {args.command}: {error}")
        return error.exit_code


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    where = Parser(add_help=False)
    where.add_argument("-n", "--namespace", help="its namespace (default: the context's)")
    where.add_argument("--context", help="the kubeconfig context to use")
    where.add_argument("--kubeconfig", help="the kubeconfig file to use")
    common = Parser(add_help=False, parents=[where])
    common.add_argument("name", metavar="NAME", help="the VicunaModel")
    output = Parser(add_help=False)
    output.add_argument("-o", "--output", choices=["text", "json"], default="text", help="form of the answer")

    parser = Parser(prog="kubectl vicuna", description=__doc__)
    parser.add_argument("--version", action="version", version=f"kubectl-vicuna {__version__}")
    words = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    def add(
        name: str,
        text: str,
        run: Callable[[Kubectl, argparse.Namespace], int],
        *parents: Parser,
    ) -> Parser:
        command = words.add_parser(name, help=text, description=text, parents=[common, *parents])
        command.set_defaults(run=run)
        return command

    def shown(args: argparse.Namespace) -> bool:
        return bool(args.output == "json")

    add(
        "status",
        "the model, its Jobs, revisions and pods as a tree, with what is wrong",
        lambda kubectl, args: commands.status(kubectl, args.name, as_json=shown(args)),
        output,
    )
    add(
        "why",
        "what the model waits for, since when, and the next step",
        lambda kubectl, args: commands.why(kubectl, args.name, as_json=shown(args)),
        output,
    )
    add(
        "history",
        "the last rollouts and how they ended",
        lambda kubectl, args: commands.history(kubectl, args.name, as_json=shown(args)),
        output,
    )
    back = add(
        "rollback",
        "set the spec back to an earlier revision; merges nothing",
        lambda kubectl, args: commands.rollback(kubectl, args.name, to=args.to, dry_run=args.dry_run),
    )
    back.add_argument("--to", metavar="REVISION", help="which one (default: the last that was complete)")
    back.add_argument("--dry-run", action="store_true", help="only print the spec that would be set")
    add("retry", "try again what failed", lambda kubectl, args: commands.retry(kubectl, args.name))
    add(
        "restart",
        "replace all pods by new ones, as in a rollout",
        lambda kubectl, args: commands.restart(kubectl, args.name),
    )
    add("upgrade", "take the operator's default image", lambda kubectl, args: commands.upgrade(kubectl, args.name))
    takes = add(
        "takeover",
        "have another operator work on the model",
        lambda kubectl, args: commands.takeover(kubectl, args.name, by=args.by),
    )
    takes.add_argument("--by", required=True, metavar="NAMESPACE/LEASE", help="the operator, by its Lease")
    logs = add(
        "logs",
        "what the servers print, or the merge",
        lambda kubectl, args: show_logs(
            kubectl,
            args.name,
            merge=args.merge,
            engine=args.engine,
            follow=args.follow,
            previous=args.previous,
            tail=args.tail,
        ),
    )
    whose = logs.add_mutually_exclusive_group()
    whose.add_argument("--merge", action="store_true", help="of the merge, also when there are servers")
    whose.add_argument("--engine", action="store_true", help="of vLLM beside the servers (serving.engine: vllm)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as lines are printed")
    logs.add_argument("-p", "--previous", action="store_true", help="of the container before its last restart")
    logs.add_argument("--tail", type=int, default=100, help="lines of each pod (default: 100; -1: all)")
    waits = add(
        "wait",
        "wait until the model is ready; ends at once when it is stalled",
        lambda kubectl, args: commands.wait(kubectl, args.name, timeout=args.timeout),
    )
    chats = add(
        "chat",
        "talk with the model from this terminal, through the API server",
        lambda kubectl, args: chat.chat(kubectl, args.name, system=args.system, options=_sampling(args)),
    )
    chats.add_argument("--system", metavar="TEXT", help="the system message")
    to_two = functools.partial(bounded, most=2.0)
    chats.add_argument("--temperature", type=to_two, help="0: always the likeliest word (default: the server's)")
    chats.add_argument("--max-tokens", type=positive, metavar="N", help="longest answer (default: what fits)")
    tests = add(
        "test",
        "send one message to every ready replica: who answers, which revision, how soon",
        lambda kubectl, args: chat.test(
            kubectl, args.name, prompt=args.prompt, tokens=args.max_tokens, as_json=shown(args)
        ),
        output,
    )
    tests.add_argument("--prompt", default="Say hello.", help="the message (default: %(default)r)")
    tests.add_argument("--max-tokens", type=positive, default=32, metavar="N", help="longest answer (default: 32)")
    keys = words.add_parser("key", help="who may use the gateway", description="Who may use the gateway.")
    add_key_arguments(keys, where)
    keys.set_defaults(run=run_key)
    uses = words.add_parser("usage", help="who used how much of what", description=_USAGE, parents=[where])
    add_usage_arguments(uses)
    uses.set_defaults(run=run_usage)
    waits.add_argument("--timeout", type=bounded, default=1800.0, metavar="SECONDS", help="(default: 1800)")
    return parser


def _sampling(args: argparse.Namespace) -> dict[str, float | int]:
    given = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    return {name: value for name, value in given.items() if value is not None}
