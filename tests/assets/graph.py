"""Everything about the asset graph that a person or a schedule relies on, as plain JSON."""

import dagster as dg


def describe(asset):
    """One asset: what it rests on, how it is cut into partitions, where it is shown, what is checked, how it runs."""
    (spec,) = asset.specs
    key = spec.key
    condition = spec.automation_condition
    return {
        "automation": condition.get_label() if condition else None,
        "freshness": spec.freshness_policy.fail_window.to_timedelta().days if spec.freshness_policy else None,
        "deps": {
            dep.asset_key.to_user_string(): type(dep.partition_mapping).__name__
            if dep.partition_mapping
            else "inferred"
            for dep in sorted(spec.deps, key=lambda dep: dep.asset_key)
        },
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "partitions": _partitions(spec.partitions_def),
        "pool": asset.op.pool,
        "backfill": asset.backfill_policy.policy_type.value if asset.backfill_policy else None,
        "code_version": spec.code_version,
        "checks": {
            check.name: {"blocking": check.blocking, "partitions": _partitions(check.partitions_def)}
            for check in sorted(asset.check_specs, key=lambda check: check.name)
            if check.asset_key == key
        },
    }


def snapshot(assets):
    """All assets by name."""
    return {asset.key.to_user_string(): describe(asset) for asset in sorted(assets, key=lambda asset: asset.key)}


def _partitions(definition):
    if definition is None:
        return None
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        return f"dynamic: {definition.name}"
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return {
            dimension.name: dimension.partitions_def.get_partition_keys() for dimension in definition.partitions_defs
        }
    return definition.get_partition_keys()
