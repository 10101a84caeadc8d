"""Clients of more or less patience."""

from server.upstream.openai import OpenAI
from tests.upstream.runs import client_of

client = client_of(OpenAI)
patient = client_of(OpenAI, first_token=30)
