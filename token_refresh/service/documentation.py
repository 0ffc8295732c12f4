"""What there is to call, for programs and for people. No other host is asked for anything; no script stands inside."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from token_refresh.service.answers import PROBLEM_TYPE, Problem
from token_refresh.service.limits import CONTENT_POLICY
from token_refresh.service.rendering import render

ASSETS = "/docs/assets"  # Swagger UI and ReDoc, as the package fastapi-offline carries them
_REDOC_POLICY = CONTENT_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")  # it makes its own
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_ERROR = {"description": "What went wrong, and what to do.", "content": {PROBLEM_TYPE: {"schema": _PROBLEM}}}
ERRORS: dict[int | str, dict[str, Any]] = {"default": _ERROR}
PAGE_ERRORS: dict[int | str, dict[str, Any]] = {
    "default": _ERROR | {"content": {PROBLEM_TYPE: {"schema": _PROBLEM}, "text/html": {}}}
}

pages = APIRouter(include_in_schema=False)


@pages.get("/docs")
async def swagger() -> HTMLResponse:
    """Every endpoint, to be tried."""
    return HTMLResponse(render("docs.html", assets=ASSETS))


@pages.get("/redoc")
async def redoc() -> HTMLResponse:
    """Every endpoint, to be read."""
    return HTMLResponse(render("redoc.html", assets=ASSETS), headers={"Content-Security-Policy": _REDOC_POLICY})


def assets() -> StaticFiles:
    """The files of both."""
    return StaticFiles(directory=str(files("fastapi_offline") / "static"))


def describe(app: FastAPI) -> None:
    """Have OpenAPI say what an error holds."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        schema = made()
        reference = "#/components/schemas/{model}"
        described = Problem.model_json_schema(ref_template=reference)
        schema["components"]["schemas"] |= {**described.pop("$defs"), "Problem": described}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way of FastAPI's own documentation
