"""A synthetic sale: an order is made, confirmed, its stock reserved, and everything is taken back (ODO-2).

Nothing stays but the order's number. What a crash left of an earlier one carries the reference, and is swept first. One
row that Odoo lets nobody delete over its interface is deleted in the database: this is for copies that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isclose
from typing import Any

from recovery.adapters.odoo.api import OdooApi, OdooRefused
from recovery.adapters.odoo.schema import one_transaction

REFERENCE = "ChangeControl synthetic sale"
LEAST_ON_HAND = 5
CANDIDATES = 20
NO_WIZARD = {"disable_cancel_warning": True}
QUIET = {"mail_create_nosubscribe": True, "mail_notrack": True, "tracking_disable": True}


@dataclass(frozen=True, slots=True)
class _Offer:
    """A product that can be sold from stock: where, and with which context Odoo is asked of it."""

    product: int
    warehouse: int
    free: float
    context: dict[str, Any]


def make_synthetic_sale(api: OdooApi, *, url: str) -> str:
    """Sell one piece of something and take it back; return a sentence. Raises `OdooRefused` where that fails."""
    sweep(api, url=url)
    offer = _find_offer(api)
    try:
        picking = _sell(api, offer)
    except OdooRefused:
        # Why it was refused is to be told, not that it could not be swept.
        with suppress(OdooRefused):
            sweep(api, url=url)
        raise
    sweep(api, url=url)
    free = _free(api, offer)
    if not isclose(free, offer.free, abs_tol=1e-6):
        raise OdooRefused(f"After the sale was taken back, {free:g} pieces are free, and {offer.free:g} were before.")
    return (
        f"One piece of product {offer.product} was ordered and reserved by transfer {picking}, and taken back: "
        f"{offer.free:g} pieces are free as before."
    )


def sweep(api: OdooApi, *, url: str) -> None:
    """Cancel and delete every order, transfer and customer that carries the reference."""
    fields = ["state", "picking_ids", "stock_reference_ids", *_locks(api)]
    orders = _search(api, "sale.order", [["client_order_ref", "=", REFERENCE]], fields)
    for order in orders:
        # With “Lock Confirmed Sales” it was locked as it was confirmed, and Odoo cancels no locked order.
        if order.get("locked"):
            api.call("sale.order", "action_unlock", ids=[order["id"]])
        if order["state"] not in ("draft", "cancel"):
            api.call("sale.order", "action_cancel", ids=[order["id"]], context=NO_WIZARD)
        if order["picking_ids"]:
            api.call("stock.picking", "unlink", ids=order["picking_ids"])
        if order["state"] == "draft":
            api.call("sale.order", "action_cancel", ids=[order["id"]], context=NO_WIZARD)
        api.call("sale.order", "unlink", ids=[order["id"]])
    partners = _search(api, "res.partner", [["ref", "=", REFERENCE], ["active", "in", [True, False]]], ["id"])
    if partners:
        api.call("res.partner", "unlink", ids=[partner["id"] for partner in partners])
    _forget_references(url, [reference for order in orders for reference in order["stock_reference_ids"]])


def _locks(api: OdooApi) -> list[str]:
    """Return the field that says that an order is locked, where this Odoo has it."""
    return list(api.call("sale.order", "fields_get", allfields=["locked"], attributes=["type"]))


def _forget_references(url: str, references: Sequence[int]) -> None:
    """Delete what tied an order to its transfers, unless something else is tied by it, too."""
    if not references:
        return
    with one_transaction(url) as connection:
        connection.execute(
            "DELETE FROM stock_reference r WHERE r.id = ANY(%s)"
            " AND NOT EXISTS (SELECT FROM stock_reference_sale_rel s WHERE s.reference_id = r.id)"
            " AND NOT EXISTS (SELECT FROM stock_reference_move_rel m WHERE m.reference_id = r.id)",
            [list(references)],
        )


def _find_offer(api: OdooApi) -> _Offer:
    """Find a product with stock in a warehouse, of those companies in whose name the key's user may act."""
    for warehouse in _search(api, "stock.warehouse", [], ["company_id"]):
        company = warehouse["company_id"][0]
        context = {"allowed_company_ids": [company], "warehouse_id": warehouse["id"], **QUIET}
        products = _search(
            api,
            "product.product",
            [["is_storable", "=", True], ["qty_available", ">", LEAST_ON_HAND], ["sale_ok", "=", True]],
            ["free_qty", "tracking", "route_ids"],
            context=context,
            limit=CANDIDATES,
        )
        for product in sorted(products, key=_oddness):
            if product["free_qty"] >= 1:
                return _Offer(
                    product=product["id"],
                    warehouse=warehouse["id"],
                    free=product["free_qty"],
                    context=context,
                )
    raise OdooRefused(f"No product with more than {LEAST_ON_HAND} pieces in stock can be sold, so no sale was tried.")


def _oddness(product: dict[str, Any]) -> tuple[bool, bool, float]:
    """Put products first that come from stock by the plainest way: without a route of their own, without lots."""
    return bool(product["route_ids"]), product["tracking"] != "none", -float(product["free_qty"])


def _sell(api: OdooApi, offer: _Offer) -> int:
    """Order one piece and reserve it; return the transfer that holds it."""
    [partner] = api.call(
        "res.partner", "create", vals_list=[{"name": REFERENCE, "ref": REFERENCE}], context=offer.context
    )
    line = [0, 0, {"product_id": offer.product, "product_uom_qty": 1}]
    values = {
        "partner_id": partner,
        "client_order_ref": REFERENCE,
        "warehouse_id": offer.warehouse,
        "order_line": [line],
    }
    [order] = api.call("sale.order", "create", vals_list=[values], context=offer.context)
    api.call("sale.order", "action_confirm", ids=[order], context=offer.context)
    [confirmed] = _read(api, "sale.order", [order], ["state", "picking_ids"], context=offer.context)
    if confirmed["state"] not in ("sale", "done"):
        raise OdooRefused(f"The order was confirmed and is '{confirmed['state']}', not 'sale'.")
    if not confirmed["picking_ids"]:
        raise OdooRefused("The order was confirmed and asks for no transfer, so no stock was reserved.")
    api.call("stock.picking", "action_assign", ids=confirmed["picking_ids"], context=offer.context)
    pickings = _read(api, "stock.picking", confirmed["picking_ids"], ["state"], context=offer.context)
    assigned = [picking["id"] for picking in pickings if picking["state"] == "assigned"]
    if not assigned:
        states = ", ".join(sorted({str(picking["state"]) for picking in pickings}))
        raise OdooRefused(f"The order's stock was not reserved: its transfers are '{states}'.")
    free = _free(api, offer)
    if not isclose(free, offer.free - 1, abs_tol=1e-6):
        raise OdooRefused(f"One piece was reserved, and {free:g} are free where {offer.free - 1:g} should be.")
    return int(assigned[0])


def _free(api: OdooApi, offer: _Offer) -> float:
    [product] = _read(api, "product.product", [offer.product], ["free_qty"], context=offer.context)
    return float(product["free_qty"])


def _search(
    api: OdooApi, model: str, domain: Sequence[object], fields: Sequence[str], **more: Any
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.call(model, "search_read", domain=list(domain), fields=list(fields), **more)
    return found


def _read(api: OdooApi, model: str, ids: Sequence[int], fields: Sequence[str], **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.call(model, "read", ids=list(ids), fields=list(fields), **more)
    return found
