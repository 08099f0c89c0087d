"""What a sale asks of an Odoo whose settings differ, told by one that answers from memory as `addons/sale` does."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.adapters.odoo.api import OdooRefused
from recovery.adapters.odoo.sale import REFERENCE, make_synthetic_sale, sweep
from tests.plugin import SERVICES

LOCKED = "UserError: You cannot cancel a locked order. Please unlock it first."
PRODUCT, WAREHOUSE, PICKING = 5, 1, 3


class Selling:
    """One product in one warehouse. With `locks`, whoever confirms has the group `sale.group_auto_done_setting`."""

    def __init__(self, *, locks: bool = False, has_locked: bool = True) -> None:
        self.locks = locks
        self.has_locked = has_locked
        self.free = 10.0
        self.orders: dict[int, dict[str, Any]] = {}
        self.partners: set[int] = set()
        self.asked: list[str] = []

    def call(self, model: str, method: str, **arguments: Any) -> Any:
        self.asked.append(f"{model}/{method}")
        return getattr(self, f"{model}/{method}".translate(str.maketrans("./", "__")))(**arguments)

    def sale_order_fields_get(self, allfields: list[str], attributes: list[str]) -> Any:
        return {name: {} for name in allfields if self.has_locked or name != "locked"}

    def sale_order_search_read(self, domain: Any, fields: list[str]) -> Any:
        assert domain == [["client_order_ref", "=", REFERENCE]]
        return [self._shown(order, fields) for order in self.orders.values()]

    def sale_order_read(self, ids: list[int], fields: list[str], context: Any) -> Any:
        return [self._shown(self.orders[pk], fields) for pk in ids]

    def _shown(self, order: dict[str, Any], fields: list[str]) -> dict[str, Any]:
        if "locked" in fields and not self.has_locked:
            raise OdooRefused("ValueError: Invalid field 'locked' on model 'sale.order'")
        return {name: order[name] for name in ["id", *fields]}

    def sale_order_create(self, vals_list: list[Any], context: Any) -> Any:
        pk = max(self.orders, default=8) + 1
        self.orders[pk] = {
            "id": pk,
            "state": "draft",
            "locked": False,
            "picking_ids": [],
            "stock_reference_ids": [],
        }
        return [pk]

    def sale_order_action_confirm(self, ids: list[int], context: Any = None) -> Any:
        for pk in ids:
            self.orders[pk].update(state="sale", locked=self.locks, picking_ids=[PICKING])
            self.free -= 1
        return True

    def sale_order_action_unlock(self, ids: list[int]) -> Any:
        for pk in ids:
            self.orders[pk]["locked"] = False

    def sale_order_action_cancel(self, ids: list[int], context: Any) -> Any:
        for pk in ids:
            if self.orders[pk]["locked"]:
                raise OdooRefused(LOCKED)
            self.free += self.orders[pk]["state"] == "sale"
            self.orders[pk]["state"] = "cancel"
        return True

    def sale_order_unlink(self, ids: list[int]) -> Any:
        for pk in ids:
            if self.orders.pop(pk)["state"] not in ("draft", "cancel"):
                raise OdooRefused("UserError: You can not delete a sent quotation or a confirmed sales order.")
        return True

    def res_partner_create(self, vals_list: list[Any], context: Any) -> Any:
        self.partners.add(7)
        return [7]

    def res_partner_search_read(self, domain: Any, fields: list[str]) -> Any:
        return [{"id": pk} for pk in sorted(self.partners)]

    def res_partner_unlink(self, ids: list[int]) -> Any:
        self.partners -= set(ids)
        return True

    def stock_warehouse_search_read(self, domain: Any, fields: list[str]) -> Any:
        return [{"id": WAREHOUSE, "company_id": [1, "Shop"]}]

    def product_product_search_read(self, domain: Any, fields: list[str], context: Any, limit: int) -> Any:
        return [{"id": PRODUCT, "free_qty": self.free, "tracking": "none", "route_ids": []}]

    def product_product_read(self, ids: list[int], fields: list[str], context: Any) -> Any:
        return [{"id": PRODUCT, "free_qty": self.free}]

    def stock_picking_action_assign(self, ids: list[int], context: Any) -> Any:
        return True

    def stock_picking_read(self, ids: list[int], fields: list[str], context: Any) -> Any:
        return [{"id": pk, "state": "assigned"} for pk in ids]

    def stock_picking_unlink(self, ids: list[int]) -> Any:
        return True


def sell(odoo: Selling) -> str:
    return make_synthetic_sale(odoo, url=SERVICES.owner_url)  # type: ignore[arg-type]


def test_shop_that_locks_what_it_confirms_takes_its_sale_back_all_the_same() -> None:
    odoo = Selling(locks=True)

    sentence = sell(odoo)

    assert "taken back: 10 pieces are free as before" in sentence
    assert (odoo.orders, odoo.partners, odoo.free) == ({}, set(), 10)


def test_order_that_was_left_locked_is_unlocked_whatever_its_state() -> None:
    odoo = Selling()
    for state in ("sale", "draft", "cancel"):
        [pk] = odoo.sale_order_create([{}], context={})
        odoo.orders[pk].update(state=state, locked=True)

    sweep(odoo, url=SERVICES.owner_url)  # type: ignore[arg-type]

    assert odoo.orders == {}


@pytest.mark.parametrize("has_locked", [True, False])
def test_nothing_is_unlocked_where_nothing_is_locked(has_locked: bool) -> None:
    odoo = Selling(has_locked=has_locked)

    sell(odoo)

    assert "sale.order/action_unlock" not in odoo.asked
    assert odoo.orders == {}
