"""The usual way: Django REST framework, simplejwt with its blacklist, the usual apps, under gunicorn.

A project of its own with requirements of its own; it imports nothing of MeStore. Tokens and sessions end
here as their packages end them: a token by a row in the blacklist, an account by `is_active`.
"""
