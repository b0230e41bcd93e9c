from __future__ import annotations

import pytest

from townhall.core.access import hash_secret
from townhall.core.commands import DeletePolicy, DeleteToken, PutPolicy, PutToken
from townhall.model.access import Level, Policy, Resource, Rule, Token
from townhall.ops.config import BadConfig
from townhall.ops.tokens import plan, read_tokens_file

SECRET = "a-long-random-text-of-forty-characters-00"
GOOD = f"""
[policy.web]
rules = [{{ resource = "service", level = "write", name = "default/default/web" }}]
[[token]]
name = "deploy"
secret = "{SECRET}"
policies = ["web"]
[[token]]
name = "root"
secret = "{SECRET}-root"
management = true
"""


def read(tmp_path, text: str, mode: int = 0o600):
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    path.chmod(mode)
    return read_tokens_file(str(path))


def test_first_time_everything_is_put(tmp_path):
    wanted, warnings = read(tmp_path, GOOD)
    assert warnings == []
    policy, deploy, root = plan(wanted, {}, {})
    assert isinstance(policy, PutPolicy)
    assert policy.rules == (Rule(Resource.SERVICE, Level.WRITE, "default/default/web", True),)
    assert isinstance(deploy, PutToken)
    assert (deploy.secret, deploy.policies, deploy.management) == (SECRET, ("web",), False)
    assert isinstance(root, PutToken)
    assert root.management


def state_after(commands):
    """Tokens and policies as they stand after the commands."""
    tokens = {
        f"id{number}": Token(
            f"id{number}", hash_secret(one.secret), one.policies, one.description, management=one.management
        )
        for number, one in enumerate(commands)
        if isinstance(one, PutToken)
    }
    policies = {
        one.name: Policy(one.name, one.rules, one.description) for one in commands if isinstance(one, PutPolicy)
    }
    return tokens, policies


def test_nothing_changed_means_nothing_to_do(tmp_path):
    wanted, _ = read(tmp_path, GOOD)
    tokens, policies = state_after(plan(wanted, {}, {}))
    assert plan(wanted, tokens, policies) == []


def test_what_left_the_file_is_removed_and_others_are_left_alone(tmp_path):
    wanted, _ = read(tmp_path, GOOD)
    tokens, policies = state_after(plan(wanted, {}, {}))
    tokens["own"] = Token("own", b"x", (), "made by hand")
    policies["own"] = Policy("own", ())
    empty, _ = read(tmp_path, "")
    assert plan(empty, tokens, policies) == [DeleteToken(id="id1"), DeleteToken(id="id2"), DeletePolicy(name="web")]


def test_a_new_secret_is_a_new_token_and_new_policies_change_the_old_one(tmp_path):
    wanted, _ = read(tmp_path, GOOD)
    tokens, policies = state_after(plan(wanted, {}, {}))
    changed, _ = read(tmp_path, GOOD.replace(f'{SECRET}"\npolicies', f'{SECRET}-new"\npolicies'))
    put, delete = plan(changed, tokens, policies)
    assert isinstance(put, PutToken)
    assert put.secret == f"{SECRET}-new"
    assert delete == DeleteToken(id="id1")
    fewer, _ = read(tmp_path, GOOD.replace('policies = ["web"]', ""))
    (patch,) = plan(fewer, tokens, policies)
    assert isinstance(patch, PutToken)
    assert (patch.id, patch.secret, patch.policies) == ("id1", "", ())


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("token = 1", "array"),
        ("[[token]]\nname='a'\nsecret='short'", "characters"),
        (f"[[token]]\nname='a'\nsecret='{SECRET}'\npolicies=['x']", "no policy 'x'"),
        (f"[[token]]\nname='a'\nsecret='{SECRET}'\ncolour='red'", "unknown field"),
        (f"[[token]]\nname='a'\nsecret='{SECRET}'\n[[token]]\nname='a'\nsecret='{SECRET}x'", "occurs twice"),
        (f"[[token]]\nname='a'\nsecret='{SECRET}'\n[[token]]\nname='b'\nsecret='{SECRET}'", "same secret"),
        ("[policy.p]\nrules=[{resource='service', level='maybe'}]", "'maybe' is none of"),
        ("[policy.p]\nrules=[{resource='moon', level='read'}]", "moon"),
        ("[[", "tokens.toml"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, needle):
    with pytest.raises(BadConfig, match=needle):
        read(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadConfig, match="No such file"):
        read_tokens_file(str(tmp_path / "absent"))


def test_a_file_that_others_can_read_is_told(tmp_path):
    _, warnings = read(tmp_path, GOOD, 0o644)
    assert "chmod 600" in warnings[0]
